"""A compiled pipeline in words: a plan comes in; what `midstream check` prints, as JSON-able data, goes out."""

from __future__ import annotations

import inspect
from typing import Any

from agents.workflow import WorkflowRules, mermaid
from schemas.row import State
from streams import topics
from streams.plan import DecisionPlan, EntityPlan, Plan


def described(plan: Plan) -> dict[str, Any]:
    """Everything the pipeline declares: event types, entities, decisions, topics."""
    return {
        "pipeline": plan.name,
        "version": plan.version,
        "events": [event_of(plan, name) for name in plan.types],
        "bare_json": [
            {"source": bare.source, "type": bare.type, "time": bare.time, "id": bare.id, "data": bare.data}
            for bare in plan.bare.values()
        ],
        "entities": [entity_of(entity) for entity in plan.entities.values()],
        "decisions": [
            decision_of(decision) for entity in plan.entities.values() for decision in entity.decisions
        ],
        "topics": [
            {
                "name": topics.topic_name(plan, topic.role),
                "key": topic.key,
                "written_by": topic.written_by,
                "about": topic.about,
            }
            for topic in topics.topics(plan)
        ],
    }


def event_of(plan: Plan, name: str) -> dict[str, Any]:
    """One event type: its model, the entity that owns such facts, and who gets a copy."""
    known = plan.types[name]
    return {
        "type": name,
        "model": known.model.__name__,
        "fields": {field: type_name(info.annotation) for field, info in known.model.model_fields.items()},
        "owner": known.owner,
        "key_field": known.key_field,
        "copies": {copy.entity: copy.key_field for copy in plan.copies[name]},
    }


def entity_of(entity: EntityPlan) -> dict[str, Any]:
    """One kind of entity and every bound of its rows."""
    rules = entity.rules
    return {
        "entity": entity.name,
        "state": entity.state.__name__,
        "rank": entity.rank,
        "order": rules.order,
        "reducers": {event: function.__name__ for event, function in rules.reducers.items()},
        "stale_after_ms": entity.stale_after_ms,
        "grace_ms": rules.grace_ms,
        "dedupe_within_ms": rules.dedupe_within_ms,
        "dedupe_limit": rules.dedupe_limit,
        "history_limit": rules.history_limit,
        "tail_limit": rules.tail_limit,
        "workflow": None if rules.workflow is None else workflow_of(rules.workflow, entity.state),
        "windows": [
            {
                "window": window.name,
                "item": window.item.__name__,
                "within_ms": window.within_ms,
                "limit": window.limit,
                "of": sorted(window.take),
            }
            for window in rules.windows
        ],
        "links": [
            {
                "link": link.name,
                "to": link.target,
                "on": link.on,
                "carries": list(link.carries.model_fields),
                "limit": link.limit,
            }
            for link in rules.links_out
        ],
    }


def workflow_of(workflow: WorkflowRules, state: type[State]) -> dict[str, Any]:
    """The steps that a field of the state may take, and the same as a Mermaid diagram."""
    first = state.model_fields[workflow.field].default
    return {
        "field": workflow.field,
        "first": first,
        "transitions": [
            {
                "before": step.before,
                "after": step.after,
                "on": sorted(step.on),
                "guard": None if step.guard is None else step.guard.__name__,
            }
            for step in workflow.transitions
        ],
        "mermaid": mermaid(workflow, first),
    }


def decision_of(decision: DecisionPlan) -> dict[str, Any]:
    """One decision: when it looks, at what, whom it asks and why, and what may follow."""
    rules = decision.rules
    review = rules.review
    return {
        "decision": rules.name,
        "entity": rules.entity,
        "verdict": rules.verdict.__name__,
        "on": sorted(rules.on),
        "every_ms": rules.every_ms or None,
        "settle_ms": rules.settle_ms,
        "context": decision.context.name,
        "sees": {
            name: type_name(info.annotation) for name, info in decision.context.model.model_fields.items()
        },
        "routes": [
            {
                "route": route.kind,
                "name": route.name,
                "version": route.version,
                "accept": route.accept,
                "why": inspect.cleandoc(route.ask.__doc__ or ""),
            }
            for route in rules.routes
        ],
        "actions": [
            {
                "action": action.name,
                "stakes": action.stakes,
                "deadline_ms": action.deadline_ms,
                "input": {
                    name: type_name(info.annotation) for name, info in action.input.model_fields.items()
                },
            }
            for action in decision.actions.values()
        ],
        "review": None
        if review is None
        else {"deadline_ms": review.deadline_ms, "on_timeout": review.on_timeout},
    }


def type_name(annotation: Any) -> str:
    """A type as its author wrote it, near enough."""
    return annotation.__name__ if isinstance(annotation, type) else str(annotation).replace("typing.", "")
