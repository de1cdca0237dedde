"""The faults, each a function that strikes an episode as often as it means to. `FAULTS` names them all.

What a fault must lead to (an exit code, a line) it notes by `episode.expect`; what holds after every one of them is
checked when the episode settles.
"""

import shutil
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from streams.exits import EXIT_DIED, EXIT_MISTAKE
from tests.chaos.brokers import Single, Three
from tests.chaos.crew import ORDERLY, STOPPED
from tests.chaos.episode import PARTITIONS, Episode, Fault
from tests.chaos.failpoints import POINTS
from tests.chaos.ledger import ENDLESS, UNLUCKY, moved_by
from tests.support.loss import cut, delete_before, make_anew
from tests.support.topics import ends, publish

# --- workers that die -----------------------------------------------------------------------------------------------


def killed_at_random(episode: Episode, kills: int = 14) -> None:
    """SIGKILL at random instants: while it starts, restores, computes, waits for Kafka."""
    crew, random = episode.crew, episode.random
    places = ["one", "two"][: random.choice([1, 2, 2])]
    for place in places:
        crew.start(place)
    episode.progress(50)
    for number in range(2 if episode.brief else kills):
        crew.tend(random.uniform(0.0, 2.5))
        crew.kill(random.choice(sorted(crew.workers)))
        episode.struck()
        if number % 3 == 2:
            crew.tend()
            episode.progress(20)
    # All at once: what is on disk must be a committed prefix whatever the instant was.
    for place in sorted(crew.workers):
        crew.kill(place)
        episode.struck()
    episode.check_databases()
    crew.tend()
    episode.progress()


def killed_at(episode: Episode, point: str, strikes: int = 3) -> None:
    """SIGKILL at a named point of a lane's life."""
    crew, random = episode.crew, episode.random
    moves, guest = point in ("in revoke", "between closing lanes"), ""
    restores = point in ("after the fence", "in restore", "after restore")
    if "one" not in crew.workers:
        crew.start("one")
        episode.progress(50)
    if restores:
        episode.rows_everywhere()
    for _ in range(1 if episode.brief else strikes):
        crew.kill("one")
        crew.look()
        if restores:
            # Something to restore.
            lose_databases(episode)
        nth = 1 if moves else random.randint(1, 2 if restores else 25)
        crew.start("one", failpoint=(point, nth, "kill"))
        if moves:
            episode.progress(20)
            # Its partitions are asked back by one who comes, each time another: of a known one the group thinks that it
            # has its partitions still.
            guest = f"guest-{episode.strikes}"
            crew.start(guest)
        ended = crew.wait_end("one", 40)
        reached = ended is not None and ended.line.startswith("failpoint: ")
        episode.expect(reached, f"the point was not reached: {point}, time {nth}: {ended}")
        episode.struck()
        if ended is None:
            crew.kill("one")
            crew.look()
        if moves:
            crew.kill(guest)
            crew.look()
        episode.check_databases()
        crew.start("one")
        episode.progress(20)


def frozen(episode: Episode) -> None:
    """SIGSTOP in the middle of a transaction until the group has given it up, then SIGCONT: a zombie."""
    crew, random = episode.crew, episode.random
    point = random.choice(["after sends", "after offsets"])
    crew.start("zombie", failpoint=(point, random.randint(5, 20), "freeze"))
    zombie = crew.workers["zombie"]
    crew.tend(40, lambda: "failpoint: " in zombie.text())
    episode.expect("failpoint: " in zombie.text(), "the zombie never came to its transaction")
    episode.struck()
    crew.start("heir")
    episode.progress(300)
    zombie.send(signal.SIGCONT)
    # One that nobody fences goes on: then there is nothing to wait for.
    ended = crew.wait_end("zombie", 5 if crew.plant else 40)
    if not crew.plant:
        died = ended is not None and ended.code == EXIT_DIED and ended.line.startswith(STOPPED)
        episode.expect(died, f"the zombie must end itself with a line that says why: {ended}")
    episode.progress(100)


def storm(episode: Episode) -> None:
    """Workers come and go in good order, one to three and back, every few seconds."""
    crew, random = episode.crew, episode.random
    crew.static = False
    crew.start("one")
    episode.progress(50)
    for _ in range(1 if episode.brief else 3):
        crew.start("two")
        crew.tend(random.uniform(0.5, 3.0))
        crew.start("three")
        episode.struck()
        crew.tend(random.uniform(2.0, 4.0))
        crew.stop(["two"] if random.random() < 0.5 else ["two", "three"])
        episode.struck()
        crew.tend(random.uniform(0.5, 2.0))
        crew.stop(["three"])
        episode.progress(20)
    failed = [each for each in crew.ended if each.code not in ORDERLY]
    episode.expect(not failed, f"nobody may fail of an orderly coming and going: {failed}")
    episode.expect(crew.kills == 0, "an orderly stop must end in time")


# --- brokers that die -----------------------------------------------------------------------------------------------


def broker_killed(episode: Episode, away_s: float = 2.0) -> None:
    """SIGKILL of the only broker; it is back after a while, and so is everything else."""
    crew, brokers = episode.crew, episode.brokers
    assert isinstance(brokers, Single), "this fault needs a broker of its own"
    crew.start("one")
    crew.start("two")
    episode.progress(100)
    for _ in range(1 if episode.brief or away_s > 10 else 2):
        brokers.node.kill()
        episode.struck()
        crew.tend(away_s)
        brokers.node.start()
        episode.progress(100, within_s=90)


def broker_away(episode: Episode) -> None:
    """The broker is away for three minutes (twenty seconds when brief)."""
    broker_killed(episode, away_s=20.0 if episode.brief else 180.0)


def power_cut(episode: Episode) -> None:
    """The broker and a worker die in the same instant, just when a commit has been promised, again and again.

    Kafka 4.3.1 then forgets the second half of every commit that was under way, and whoever opens the lane must know.
    """
    crew, brokers = episode.crew, episode.brokers
    assert isinstance(brokers, Single), "this fault needs a broker of its own"
    crew.start("one")
    crew.start("two")
    for _ in range(2 if episode.brief else 6):
        episode.progress(100, within_s=90)
        victim = episode.random.choice(["one", "two"])
        at = ("after EndTxn", episode.random.randint(1, 25), "kill", brokers.node.pid)
        crew.start(victim, failpoint=at)
        ended = crew.wait_end(victim, 40)
        reached = ended is not None and ended.line.startswith("failpoint: ")
        episode.expect(reached, f"the point was not reached: {at}: {ended}")
        episode.struck()
        brokers.node.gone()
        brokers.node.start()
        crew.start(victim)
    episode.progress(100, within_s=90)


def cluster_node_killed(episode: Episode) -> None:
    """Of three brokers the leader, the group's coordinator and a transaction coordinator are killed in turn."""
    crew, three = episode.crew, episode.brokers
    assert isinstance(three, Three), "this fault needs three brokers"
    crew.start("one")
    crew.start("two")
    episode.progress(100)
    victims: list[tuple[str, Callable[[], int]]] = [
        ("leader", lambda: three.leader(f"{episode.name}.events", 0)),
        ("group coordinator", lambda: three.group_coordinator(episode.name)),
        ("transaction coordinator", lambda: three.transaction_coordinator(f"{episode.name}.events.0")),
    ]
    for role, victim in episode.random.sample(victims, 1 if episode.brief else 3):
        number = victim()
        three.nodes[number].kill()
        episode.struck(f"{role}: node {number}")
        # Two of three are enough.
        episode.progress(100, within_s=90)
        three.nodes[number].start()
        three.wait_whole()


# --- disks ----------------------------------------------------------------------------------------------------------


def disk_lost(episode: Episode) -> None:
    """The folder of a worker that was killed is gone: the changelog gives it all back."""
    crew = episode.crew
    crew.start("one")
    episode.progress(300)
    for _ in range(1 if episode.brief else 3):
        crew.kill("one")
        lose_databases(episode)
        episode.struck()
        crew.tend()
        episode.progress(50)


def disk_full(episode: Episode) -> None:
    """RocksDB cannot grow a file any more: it ends with a line, commits nothing that it has not, and goes on later."""
    crew = episode.crew
    crew.start("one")
    for number in range(1 if episode.brief else 3):
        episode.progress(50)
        # A database goes on with the buffers that it was made with: it has to be a new one to have small ones.
        crew.kill("one")
        crew.look()
        lose_databases(episode)
        crew.start("one", file_limit_bytes=episode.random.randrange(25_000, 60_000))
        ended = crew.wait_end("one", 60)
        told = ended is not None and ended.code == EXIT_DIED and ended.line.startswith(STOPPED)
        episode.expect(told, f"a full disk must end it with a line that says so: {ended}")
        episode.struck(str(number))
        episode.check_databases()
        crew.start("one")
        episode.progress(50)


def disk_damaged(episode: Episode) -> None:
    """Bytes are turned round in every table of the database: it is restored from the changelog, and that is said."""
    crew = episode.crew
    crew.start("one")
    for _ in range(1 if episode.brief else 2):
        episode.progress(300)
        crew.stop()
        for folder in databases(episode):
            (folder / "CURRENT").write_bytes(b"\xff" * 16)
        episode.struck()
        worker = crew.start("one")
        episode.progress(100)
        told = [line for line in worker.text().splitlines() if "is damaged" in line and "restores it" in line]
        episode.expect(len(told) >= PARTITIONS, f"each damaged database must be named: {told}")
        lose_databases(episode, "damaged-events-*")


def databases(episode: Episode, names: str = "events-*") -> list[Path]:
    """The folders of the lanes' databases."""
    return sorted(episode.home.glob(f"*/*/{episode.name}/{names}"))


def lose_databases(episode: Episode, names: str = "events-*") -> None:
    """Delete them."""
    for folder in databases(episode, names):
        shutil.rmtree(folder)


# --- logs -----------------------------------------------------------------------------------------------------------


def changelog_emptied(episode: Episode) -> None:
    """A changelog is deleted and made anew: no start, exit code 78, and what to do."""
    stopped_for_good(episode, lambda topic: make_anew(episode.kafka, topic, PARTITIONS), "account.changelog")


def changelog_cut(episode: Episode) -> None:
    """A changelog has lost its first records, and the disk its database: no start, exit code 78, and what to do."""

    def lose(topic: str) -> None:
        for number, end in ends(episode.kafka, topic).items():
            cut(episode.kafka, topic, number, end // 2)
        lose_databases(episode)

    stopped_for_good(episode, lose, "account.changelog")


def source_out_of_range(episode: Episode) -> None:
    """Raw records are deleted before they were read: no start, exit code 78, and what to do."""

    def lose(topic: str) -> None:
        # More is written while nobody reads, and then deleted.
        time.sleep(2)
        for number, end in ends(episode.kafka, topic).items():
            delete_before(episode.kafka, topic, number, end)

    stopped_for_good(episode, lose, "raw")


def stopped_for_good(episode: Episode, lose: Callable[[str], object], role: str) -> None:
    """Check everything; let `lose` do its damage to a topic; no worker may start then, or change anything."""
    crew = episode.crew
    crew.start("one")
    episode.progress(200)
    # Checked before: afterwards there is nothing left to check it against.
    episode.settle(load_goes_on=role == "raw")
    before = outputs(episode)
    lose(f"{episode.name}.{role}")
    episode.struck()
    crew.start("one")
    ended = crew.wait_end("one", 60)
    told = ended is not None and ended.code == EXIT_MISTAKE and ended.line.startswith(STOPPED)
    episode.expect(told, f"what a restart cannot mend must end with {EXIT_MISTAKE} and a line: {ended}")
    episode.expect(told and "midstream offsets" in str(ended), f"the line must say what to do: {ended}")
    episode.expect(outputs(episode) == before, "a worker that refuses to start must change nothing")
    crew.ended.clear()
    crew.end()


def outputs(episode: Episode) -> dict[str, dict[int, int]]:
    """Where the topics end that tell the world something."""
    names = [f"{episode.name}.{role}" for role in ("events", "decisions", "actions", "quarantine")]
    return {name: ends(episode.kafka, name) for name in names}


# --- what people do -------------------------------------------------------------------------------------------------


def poison(episode: Episode) -> None:
    """A burst of records with which something is wrong, and of events on which the author's function raises."""
    crew = episode.crew
    crew.start("one")
    episode.progress(50)
    before = len(crew.ended)
    unlucky = [moved_by(UNLUCKY, f"unlucky-{number}", f"a{number}") for number in range(30)]
    publish(episode.kafka, f"{episode.name}.raw", [*unlucky, *unlucky[:5]])
    episode.struck()
    episode.progress(100)
    ended = crew.ended[before:]
    episode.expect(not ended, f"nothing that comes in may end a worker: {ended}")


def never_returns(episode: Episode) -> None:
    """A reducer that never returns: the worker ends and names the function; mended, it goes on."""
    crew = episode.crew
    stuck = f"tests.chaos.ledger:ledger({episode.name!r}, stuck=True)"
    crew.start("one", expression=stuck, stuck_s=5.0)
    episode.progress(50)
    publish(episode.kafka, f"{episode.name}.raw", [moved_by(ENDLESS, "endless")])
    episode.struck()
    ended = crew.wait_end("one", 60)
    told = ended is not None and ended.code == EXIT_DIED and ended.line.startswith(STOPPED)
    episode.expect(told, f"a function that never returns must end the worker: {ended}")
    episode.expect(told and "moved_or_stuck" in str(ended), f"the line must name the function: {ended}")
    crew.start("one")
    episode.progress(100)


# --- all of them ----------------------------------------------------------------------------------------------------

# On a broker that outlives them.
ON_ANY: dict[str, Fault] = {
    "killed at random": killed_at_random,
    **{f"killed {point}": partial(killed_at, point=point) for point in POINTS},
    "frozen": frozen,
    "storm": storm,
    "disk lost": disk_lost,
    "disk full": disk_full,
    "disk damaged": disk_damaged,
    "changelog emptied": changelog_emptied,
    "changelog cut": changelog_cut,
    "source out of range": source_out_of_range,
    "poison": poison,
    "never returns": never_returns,
}
# On a broker of their own.
ON_SINGLE: dict[str, Fault] = {
    "broker killed": broker_killed,
    "broker away": broker_away,
    "power cut": power_cut,
}
ON_THREE: dict[str, Fault] = {"cluster node killed": cluster_node_killed}
FAULTS = ON_ANY | ON_SINGLE | ON_THREE
