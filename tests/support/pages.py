"""A pipeline whose rows and records can become as large as a test wants them: pages of text, and a summary of each."""

from datetime import timedelta
from typing import Literal

from streams import ActionInput, Context, Event, Pipeline, State, Verdict


class Written(Event, type="page.written"):
    page: str
    text: str
    summary_chars: int = 0


class Page(State):
    text: str = ""
    versions: int = 0


class Look(Context):
    page: str
    text: str


class Summary(Verdict):
    action: Literal["file"]


class Filed(ActionInput):
    page: str


def pages(name: str, *, settle_s: float = 0) -> Pipeline:
    """The pipeline: a page is looked at when it is written, or `settle_s` later. Its decision holds the summary."""
    pipeline = Pipeline(name, version=1)
    page = pipeline.entity("page", Page, key="page", order="arrival")

    @page.on(Written)
    def written(state: Page, event: Written) -> Page:
        return state.evolve(text=event.text, versions=state.versions + 1)

    @page.context
    def look(key: str, event: Written) -> Look:
        return Look(page=key, text="s" * event.summary_chars)

    settle = {"settle": timedelta(seconds=settle_s)} if settle_s else {}
    summary = page.decision("summary", verdict=Summary, context=look, on=(Written,), **settle)

    @summary.rule
    def summarise(ctx: Look) -> Summary | None:
        """Every page that has something to say."""
        return Summary(action="file", reason="said") if ctx.text else None

    @summary.action("file", stakes="low")
    def file(ctx: Look, verdict: Summary) -> Filed:
        return Filed(page=ctx.page)

    return pipeline
