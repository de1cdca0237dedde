package bench;

import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.ObjectReader;
import com.fasterxml.jackson.databind.ObjectWriter;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.time.Instant;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import org.apache.kafka.clients.consumer.ConsumerConfig;
import org.apache.kafka.clients.producer.ProducerConfig;
import org.apache.kafka.common.serialization.Serde;
import org.apache.kafka.common.serialization.Serdes;
import org.apache.kafka.streams.KafkaStreams;
import org.apache.kafka.streams.StreamsBuilder;
import org.apache.kafka.streams.StreamsConfig;
import org.apache.kafka.streams.Topology;
import org.apache.kafka.streams.errors.StreamsUncaughtExceptionHandler.StreamThreadExceptionResponse;
import org.apache.kafka.streams.kstream.Consumed;
import org.apache.kafka.streams.kstream.Produced;
import org.apache.kafka.streams.processor.api.Processor;
import org.apache.kafka.streams.processor.api.ProcessorContext;
import org.apache.kafka.streams.processor.api.Record;
import org.apache.kafka.streams.state.KeyValueStore;
import org.apache.kafka.streams.state.Stores;

/**
 * Kafka Streams on the same work: exactly_once_v2, one stream thread, a RocksDB store with its changelog, one output per
 * event. Its last argument is the task of benchmarks/contender.py; it runs until its standard input closes.
 *
 * <p>Where it had a choice it got the faster one: a record cache that holds every account (so the changelog gets an
 * account once per commit), a commit each second instead of ten, large producer batches, fetches of several megabytes.
 */
public final class KafkaStreamsEos {
  private static final ObjectMapper JSON = new ObjectMapper();
  private static final String STORE = "account";

  record Task(
      String name, String bootstrap, String role, String source, String output, long events, int partitions,
      String folder) {}

  record Paid(
      @JsonProperty("account_id") String accountId,
      @JsonProperty("payment_id") String paymentId,
      long amount,
      String currency,
      String status,
      String note,
      Instant at) {}

  record Account(
      long payments,
      long total,
      @JsonProperty("last_payment") String lastPayment,
      @JsonProperty("last_status") String lastStatus) {
    static final Account NEW = new Account(0, 0, "", "");

    Account after(Paid event) {
      return new Account(payments + 1, total + event.amount(), event.paymentId(), event.status());
    }
  }

  record Change(
      String entity,
      String key,
      long version,
      @JsonProperty("time_ms") long timeMs,
      @JsonProperty("event_id") String eventId,
      @JsonProperty("event_type") String eventType,
      Map<String, List<Object>> fields) {

    /** What the payment changed, field by field: the body that our lane writes to `changes`. */
    static Change of(Paid event, Account before, Account after) {
      Map<String, List<Object>> fields = new LinkedHashMap<>();
      note(fields, "payments", before.payments(), after.payments());
      note(fields, "total", before.total(), after.total());
      note(fields, "last_payment", before.lastPayment(), after.lastPayment());
      note(fields, "last_status", before.lastStatus(), after.lastStatus());
      return new Change(
          "account", event.accountId(), after.payments(), event.at().toEpochMilli(), event.paymentId(),
          "payment.made", fields);
    }

    private static void note(Map<String, List<Object>> fields, String name, Object before, Object after) {
      if (!before.equals(after)) {
        fields.put(name, List.of(before, after));
      }
    }
  }

  /** Folds each payment into its account and forwards the change. */
  static final class Fold implements Processor<String, Paid, String, Change> {
    private ProcessorContext<String, Change> context;
    private KeyValueStore<String, Account> accounts;

    @Override
    public void init(ProcessorContext<String, Change> context) {
      this.context = context;
      this.accounts = context.getStateStore(STORE);
    }

    @Override
    public void process(Record<String, Paid> record) {
      Account before = accounts.get(record.key());
      if (before == null) {
        before = Account.NEW;
      }
      Account after = before.after(record.value());
      accounts.put(record.key(), after);
      context.forward(record.withValue(Change.of(record.value(), before, after)));
    }
  }

  private static <T> Serde<T> json(Class<T> type) {
    ObjectReader reader = JSON.readerFor(type);
    ObjectWriter writer = JSON.writerFor(type);
    return Serdes.serdeFrom(
        (topic, value) -> {
          try {
            return value == null ? null : writer.writeValueAsBytes(value);
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        },
        (topic, bytes) -> {
          try {
            return bytes == null ? null : reader.readValue(bytes);
          } catch (IOException error) {
            throw new UncheckedIOException(error);
          }
        });
  }

  private static Topology topology(Task task) {
    StreamsBuilder builder = new StreamsBuilder();
    builder.addStateStore(
        Stores.keyValueStoreBuilder(
                Stores.persistentKeyValueStore(STORE), Serdes.String(), json(Account.class))
            .withCachingEnabled());
    builder.stream(task.source(), Consumed.with(Serdes.String(), json(Paid.class)))
        .process(Fold::new, STORE)
        .to(task.output(), Produced.with(Serdes.String(), json(Change.class)));
    return builder.build();
  }

  private static Properties settings(Task task) {
    Properties settings = new Properties();
    settings.put(StreamsConfig.APPLICATION_ID_CONFIG, task.name());
    settings.put(StreamsConfig.BOOTSTRAP_SERVERS_CONFIG, task.bootstrap());
    settings.put(StreamsConfig.STATE_DIR_CONFIG, task.folder() + "/streams");
    settings.put(StreamsConfig.PROCESSING_GUARANTEE_CONFIG, StreamsConfig.EXACTLY_ONCE_V2);
    settings.put(StreamsConfig.NUM_STREAM_THREADS_CONFIG, 1);
    settings.put(StreamsConfig.REPLICATION_FACTOR_CONFIG, 1);
    settings.put(StreamsConfig.COMMIT_INTERVAL_MS_CONFIG, 1000L);
    settings.put(StreamsConfig.STATESTORE_CACHE_MAX_BYTES_CONFIG, 64L << 20);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.AUTO_OFFSET_RESET_CONFIG), "earliest");
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_PARTITION_FETCH_BYTES_CONFIG), 4 << 20);
    settings.put(StreamsConfig.consumerPrefix(ConsumerConfig.MAX_POLL_RECORDS_CONFIG), 5000);
    settings.put(StreamsConfig.producerPrefix(ProducerConfig.BATCH_SIZE_CONFIG), 256 << 10);
    return settings;
  }

  public static void main(String[] arguments) throws IOException {
    JSON.registerModule(new Times());
    Task task = JSON.readValue(arguments[arguments.length - 1], Task.class);
    KafkaStreams streams = new KafkaStreams(topology(task), settings(task));
    streams.setUncaughtExceptionHandler(
        error -> {
          error.printStackTrace();
          Runtime.getRuntime().halt(1);
          return StreamThreadExceptionResponse.SHUTDOWN_CLIENT;
        });
    streams.start();
    // The parent keeps the other end open and never writes: it is gone when this returns.
    System.in.read();
    Runtime.getRuntime().halt(1);
  }
}
