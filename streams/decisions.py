"""A declared decision: its routes in order, and what its verdict may lead to. Made by `Entity.decision`."""

from __future__ import annotations

import typing
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Generic, Literal, TypeVar

from agents.action import ActionRules
from agents.context import ContextRules
from agents.decision import ReviewRules, Route
from schemas.action import ActionInput
from schemas.context import Context
from schemas.decision import NO_ACTION, Stakes, Verdict
from schemas.times import duration_ms
from streams.signatures import alternatives, literals, mistake, one_of, optional, subclass, version_of, wired

ContextT = TypeVar("ContextT", bound=Context)
VerdictT = TypeVar("VerdictT", bound=Verdict)
InputT = TypeVar("InputT", bound=ActionInput)


@dataclass
class Decision(Generic[ContextT, VerdictT]):
    """One declared decision: its routes in order, and the actions that its verdict may name."""

    name: str
    verdict: type[VerdictT]
    context: ContextRules
    on: frozenset[str]
    settle_ms: int
    every_ms: int
    routes: list[Route] = field(default_factory=list)
    actions: dict[str, ActionRules] = field(default_factory=dict)
    review: ReviewRules | None = None
    # Routes whose function never returns None: what is declared after such a one is never asked.
    total: set[str] = field(default_factory=set)

    def rule(self, function: Callable[[ContextT], VerdictT | None]) -> Callable[[ContextT], VerdictT | None]:
        """Declare a rule: `(context) -> verdict`, or None to pass the question on. Its docstring is its reason."""
        given, returned = wired(function)
        if [*given.values()] != [self.context.model] or alternatives(returned) != [self.verdict]:
            expected = f"({self.context.model.__name__}) -> {self.verdict.__name__} or None"
            raise mistake(function, expected, f"{given} -> {returned}", "Mend the annotations.")
        if not function.__doc__:
            raise mistake(function, "a docstring", "none", "Say why this rule may decide.")
        if self.total:
            raise mistake(
                function, "a route that can be reached", f"one after {min(self.total)}", "Reorder them."
            )
        if not optional(returned):
            self.total.add(function.__name__)
        self.routes.append(Route("rule", function.__name__, version_of(function), 0.0, function))
        return function

    def action(
        self, name: str, *, stakes: Stakes, deadline: timedelta | None = None
    ) -> Callable[[Callable[[ContextT, VerdictT], InputT]], Callable[[ContextT, VerdictT], InputT]]:
        """Declare what verdict action `name` leads to: `(context, verdict) -> input of the action`.

        Args:
            name: one of the values of the verdict's `action`.
            stakes: "high" waits for a person (see `human`).
            deadline: how long after the decision's instant the action still makes sense.
        """

        def declare(
            function: Callable[[ContextT, VerdictT], InputT],
        ) -> Callable[[ContextT, VerdictT], InputT]:
            given, returned = wired(function)
            if [*given.values()] != [self.context.model, self.verdict] or not subclass(returned, ActionInput):
                expected = (
                    f"({self.context.model.__name__}, {self.verdict.__name__}) -> an ActionInput subclass"
                )
                raise mistake(function, expected, f"{given} -> {returned}", "Mend the annotations.")
            if name not in self.verdict_actions():
                cure = f"Its actions are {', '.join(self.verdict_actions())}."
                raise mistake(function, f"an action of {self.verdict.__name__}", repr(name), cure)
            one_of(function, "stakes", stakes, *literals(Stakes))
            limit = None if deadline is None else duration_ms(deadline)
            self.actions[name] = ActionRules(name, returned, function, stakes, limit)
            return function

        return declare

    def human(self, *, deadline: timedelta, on_timeout: Literal["reject", "approve"] = "reject") -> None:
        """Declare that a person decides what has high stakes, until `deadline` after the decision's instant."""
        one_of(f"decision {self.name!r}", "on_timeout", on_timeout, "reject", "approve")
        self.review = ReviewRules(duration_ms(deadline), on_timeout)

    def verdict_actions(self) -> list[str]:
        """The actions that the verdict may name, without "none"."""
        annotation = typing.get_type_hints(self.verdict)["action"]
        return [name for name in literals(annotation) if name != NO_ACTION]
