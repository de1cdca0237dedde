"""What ends a command: an exception comes in; one clear line and an exit code go out.

Errors are looked up by name, not by class, so that nothing is loaded that the command itself has not loaded.
"""

from __future__ import annotations

import re

from streams.exits import EXIT_DIED, EXIT_MISTAKE, EXIT_UNAVAILABLE

EXIT_REFUSED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
# What a shell reports of a command whose reader has gone (128 + SIGPIPE).
EXIT_PIPE = 141

CODES = {
    "streams.signatures.PipelineError": EXIT_MISTAKE,
    "streams.settings.SettingsError": EXIT_MISTAKE,
    "streams.transport.PinError": EXIT_MISTAKE,
    "streams.cluster.NoTopicError": EXIT_MISTAKE,
    "streams.embedded.folder.BrokerError": EXIT_UNAVAILABLE,
    "streams.embedded.kafka_jars.JarError": EXIT_UNAVAILABLE,
    "streams.embedded.java.JavaError": EXIT_UNAVAILABLE,
    "streams.local.LocalError": EXIT_UNAVAILABLE,
    "streams.reviews.UnreadError": EXIT_UNAVAILABLE,
    "aiokafka.errors.KafkaError": EXIT_UNAVAILABLE,
    "builtins.TimeoutError": EXIT_UNAVAILABLE,
    "builtins.OSError": EXIT_UNAVAILABLE,
}
# How aiokafka names the brokers that it could not reach.
ADDRESS = re.compile(r"\('([^']+)', (\d+)")
OURS = ("schemas.", "tables.", "agents.", "streams.", "examples.")


def told(error: BaseException) -> tuple[int, str] | None:
    """Exit code and line for an error that a person can do something about; None for a bug of ours."""
    if isinstance(error, KeyboardInterrupt):
        return EXIT_INTERRUPTED, "interrupted"
    names = [f"{kind.__module__}.{kind.__qualname__}" for kind in type(error).__mro__]
    code = next((CODES[name] for name in names if name in CODES), None)
    line = " ".join(str(error).split())
    if code is None and names[0].startswith(OURS):
        code = EXIT_REFUSED
    if code is None:
        return None
    if "aiokafka.errors.KafkaConnectionError" in names and (tried := ADDRESS.findall(line)):
        line = f"Kafka does not answer at {', '.join(f'{host}:{port}' for host, port in tried)}. See: midstream doctor"
    elif "aiokafka.errors.KafkaError" in names:
        line = f"Kafka: {line}. See: midstream doctor"
    elif "builtins.TimeoutError" in names:
        line = f"no answer in time{f' ({line})' if line else ''}. See: midstream doctor"
    return code, line or type(error).__name__


def last_words(error: BaseException) -> str:
    """The line for a bug of ours, below its traceback."""
    return f"this is a mistake in Midstream, not in your pipeline: {type(error).__name__}"


EXIT_BUG = EXIT_DIED
