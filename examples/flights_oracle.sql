-- What the flights pipeline must find, derived in SQL from the CSV files alone.
--
-- In:  the tables flights_csv, weather_csv, airports_csv (every column text, NA read as null; times are local
--      clocks as whole numbers, 5:15 pm = 1715), and the variables first_day, last_day (both in the range).
-- Out: the tables flight (one row per flight in the range) and finding (one row each time a rule fired).
--
-- TimeZone is UTC. Here a TIMESTAMP is a local clock and a TIMESTAMPTZ an instant; AT TIME ZONE turns one
-- into the other.

CREATE MACRO clock_minutes(hhmm) AS hhmm // 100 * 60 + hhmm % 100;

-- The first instant after `since` at which the clock of `zone` shows `minutes` past midnight. Three days are
-- tried, each with both instants of an hour that occurs twice; a clock time that a day skips fails the test.
CREATE MACRO first_instant(since, minutes, zone) AS list_min(list_filter(
    flatten(list_transform(
        list_transform([0, 1, 2], lambda day: (since AT TIME ZONE zone)::DATE + day + to_minutes(minutes)),
        lambda clock: [clock AT TIME ZONE zone, clock AT TIME ZONE zone - INTERVAL 1 HOUR]
    )),
    lambda instant: instant > since
        AND hour(instant AT TIME ZONE zone) * 60 + minute(instant AT TIME ZONE zone) = minutes
));

-- 1. Flights. -----------------------------------------------------------------------------------------------

CREATE TABLE scheduled AS
WITH typed AS (
    SELECT
        make_date(year::INT, month::INT, day::INT) AS local_day,
        carrier || flight AS number,
        tailnum AS tail,
        origin,
        clock_minutes(sched_dep_time::INT) AS departure_minute,
        clock_minutes(sched_arr_time::INT) AS arrival_minute,
        dep_time IS NOT NULL AS has_departed,
        arr_time IS NOT NULL AS has_arrived,
        dep_delay::INT AS dep_delay,
        arr_delay::INT AS arr_delay,
        clock_minutes(arr_time::INT) % 1440 AS arrived_minute,  -- 2400 is midnight
        coalesce(tzone, 'America/Puerto_Rico') AS zone          -- BQN, PSE, SJU, STT are not in airports.csv
    FROM flights_csv
    LEFT JOIN airports_csv ON dest = faa
    WHERE make_date(year::INT, month::INT, day::INT)
        BETWEEN getvariable('first_day') AND getvariable('last_day')
)
SELECT
    *,
    strftime(local_day, '%Y-%m-%d') || '-' || number || '-' || origin AS flight_id,
    (local_day + to_minutes(departure_minute)) AT TIME ZONE 'America/New_York' AS scheduled_departure,
    first_instant(scheduled_departure, arrival_minute, zone) AS scheduled_arrival
FROM typed;

CREATE TABLE flight AS
SELECT
    flight_id,
    local_day,
    tail,
    origin,
    CASE
        WHEN NOT has_departed THEN 'cancelled'
        WHEN NOT has_arrived THEN 'departed'
        ELSE 'arrived'
    END AS status,
    scheduled_departure,
    scheduled_arrival,
    (local_day - INTERVAL 6 HOUR) AT TIME ZONE 'America/New_York' AS published_at,
    CASE WHEN NOT has_departed THEN scheduled_departure - INTERVAL 1 HOUR END AS cancelled_at,
    CASE WHEN has_departed THEN dep_delay END AS departure_delay_min,
    scheduled_departure + to_minutes(departure_delay_min) AS departed_at,
    CASE
        WHEN NOT has_arrived THEN NULL
        WHEN arr_delay IS NOT NULL THEN scheduled_arrival + to_minutes(arr_delay)
        ELSE first_instant(departed_at, arrived_minute, zone)   -- diverted
    END AS arrived_at,
    date_diff('minute', scheduled_arrival, arrived_at) AS arrival_delay_min
FROM scheduled;

-- 2. Weather of the range. ----------------------------------------------------------------------------------

-- A wind above 115 m/s, stronger than any ever measured, makes an observation invalid: it does not exist. The
-- year has one: EWR, 12 February 08:00 UTC, 1,048 mph.

CREATE TABLE weather AS
SELECT
    origin,
    time_hour::TIMESTAMPTZ AS observed_at,
    coalesce(
        wind_speed::DOUBLE * 0.44704 >= 10      -- mph -> m/s
        OR visib::DOUBLE * 1.609344 < 5         -- mi -> km
        OR precip::DOUBLE * 25.4 >= 1,          -- in -> mm
        FALSE                                   -- a missing value is not bad
    ) AS bad
FROM weather_csv
WHERE (wind_speed IS NULL OR wind_speed::DOUBLE * 0.44704 <= 115)
    AND observed_at >= getvariable('first_day')::TIMESTAMP AT TIME ZONE 'America/New_York'
    AND observed_at < (getvariable('last_day') + INTERVAL 30 HOUR) AT TIME ZONE 'America/New_York';

-- 3. rebook: one for each cancelled flight. -----------------------------------------------------------------

CREATE TABLE finding AS
SELECT
    'rebook' AS rule,
    local_day AS day,
    origin AS airport,
    cancelled_at AS as_of,
    tail,
    flight_id AS subject,
    flight_id AS cause,
    NULL::BIGINT AS gate_min
FROM flight
WHERE status = 'cancelled';

-- 4. knock_on: what an arrival at least 15 minutes late leaves for the aircraft's next leg. -----------------

-- The aircraft stands 45 minutes at the destination and takes the scheduled block time of the way out to come
-- back. gate_min is what is then left before its next leg: under 45 minutes calls for haste, under 0 for
-- another aircraft.
CREATE TABLE turnaround AS
WITH late AS (
    SELECT * FROM flight WHERE status = 'arrived' AND arrival_delay_min >= 15 AND tail IS NOT NULL
),
next_leg AS (
    SELECT
        late.flight_id AS cause,
        arg_min(leg, (leg.scheduled_departure, leg.flight_id)) AS leg
    FROM late
    JOIN flight AS leg
        ON leg.tail = late.tail
        AND leg.scheduled_departure > late.scheduled_departure
        AND leg.published_at <= late.arrived_at
        AND (leg.departed_at IS NULL OR leg.departed_at > late.arrived_at)
        AND (leg.cancelled_at IS NULL OR leg.cancelled_at > late.arrived_at)
    GROUP BY late.flight_id
)
SELECT
    late.flight_id AS cause,
    late.tail,
    late.arrived_at AS as_of,
    leg.flight_id AS subject,
    leg.origin AS airport,
    date_diff(
        'minute',
        late.arrived_at + INTERVAL 45 MINUTE + (late.scheduled_arrival - late.scheduled_departure),
        leg.scheduled_departure
    ) AS gate_min
FROM next_leg
JOIN late ON late.flight_id = next_leg.cause;

INSERT INTO finding
SELECT
    CASE WHEN gate_min < 0 THEN 'swap_aircraft' ELSE 'expedite_turnaround' END,
    (as_of AT TIME ZONE 'America/New_York')::DATE,
    airport,
    as_of,
    tail,
    subject,
    cause,
    gate_min
FROM turnaround
WHERE gate_min < 45;

-- 5. ground_delay: at a full UTC hour, ten long delays or cancellations in two hours, and bad weather. ------

CREATE TABLE trouble AS
SELECT origin, departed_at AS happened_at FROM flight WHERE departure_delay_min >= 60
UNION ALL
SELECT origin, cancelled_at FROM flight WHERE status = 'cancelled';

INSERT INTO finding
WITH boundary AS (
    SELECT unnest(generate_series(
        date_trunc('hour', min(happened_at)),
        date_trunc('hour', max(happened_at)) + INTERVAL 3 HOUR,
        INTERVAL 1 HOUR
    )) AS full_hour
    FROM trouble
),
crowded AS (
    SELECT origin, full_hour
    FROM boundary
    JOIN trouble ON happened_at > full_hour - INTERVAL 2 HOUR AND happened_at <= full_hour
    GROUP BY origin, full_hour
    HAVING count(*) >= 10
),
latest AS (
    SELECT crowded.origin, crowded.full_hour, arg_max(weather.bad, weather.observed_at) AS bad
    FROM crowded
    JOIN weather
        ON weather.origin = crowded.origin
        AND observed_at > crowded.full_hour - INTERVAL 3 HOUR
        AND observed_at <= crowded.full_hour
    GROUP BY crowded.origin, crowded.full_hour
)
SELECT
    'ground_delay',
    (full_hour AT TIME ZONE 'America/New_York')::DATE,
    origin,
    full_hour,
    NULL,
    origin,
    origin,
    NULL
FROM latest
WHERE bad;
