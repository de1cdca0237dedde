"""What a decision in memory looked at."""

from schemas.record import Given
from streams.contexts import ANSWERS, Looked, Shown, is_question
from streams.memory import Memory
from streams.topics import EVENTS


def shown(memory: Memory, number: int) -> Shown:
    """The decision's row, folded again; events stand on the topic with the offsets that the memory gave them."""
    decision = memory.decisions[number]
    if decision.route in ANSWERS:
        decision = next(each for each in memory.decisions if is_question(each, decision))
    looked = Looked(memory.plan, 1, decision)
    for offset, out in enumerate(memory.records[EVENTS]):
        if not looked.hear(Given(EVENTS, 0, offset + 1, 0, out.key, out.value, out.headers)):
            break
    return looked.shown()
