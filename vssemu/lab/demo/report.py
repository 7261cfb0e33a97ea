"""What the demo prints: a line and a figure for each step, and the summary."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console


@dataclass(slots=True)
class Line:
    """A step in progress; `say` gives its figure."""

    figure: str = ""

    def say(self, figure: str) -> None:
        """Set the figure that stands at the end of the step's line."""
        self.figure = figure


@dataclass(slots=True)
class Report:
    """Steps with their times, and what is summed up at the end."""

    console: Console = field(default_factory=lambda: Console(highlight=False))
    times: list[tuple[str, float]] = field(default_factory=list)
    facts: list[tuple[str, str]] = field(default_factory=list)

    @staticmethod
    def now() -> float:
        """Return a moment, to measure with."""
        return time.monotonic()

    def heading(self, text: str) -> None:
        """Print a heading."""
        self.console.print(f"\n[bold]{text}[/bold]")

    @contextmanager
    def step(self, mark: str, text: str) -> Iterator[Line]:
        """Time the block as one step and print its line when it is done."""
        line = Line()
        begin = time.monotonic()
        with self.console.status(f"{mark}  {text}"):
            yield line
        seconds = time.monotonic() - begin
        self.times.append((f"{mark:>2}  {text}", seconds))
        self.console.print(
            f"  [green]{mark:>2}  {text}[/green]  {line.figure}  [dim]{seconds:.2f} s[/dim]",
            soft_wrap=True,
        )

    @staticmethod
    def quiet() -> "Report":
        """Return one that prints nothing, and keeps what it is told."""
        return Report(console=Console(quiet=True))

    def note(self, text: str, figure: str) -> None:
        """Print a line that is no step."""
        self.console.print(f"      [green]{text}[/green]  {figure}", soft_wrap=True)

    def fact(self, name: str, figure: str) -> None:
        """Keep a figure for the summary."""
        self.facts.append((name, figure))

    def summary(self) -> None:
        """Print times and figures."""
        self.heading("Summary")
        times = [*self.times, ("    in all", sum(seconds for _, seconds in self.times))]
        width = max(len(name) for name, _ in times)
        for name, seconds in times:
            self.console.print(f"  {name:<{width}}  {seconds:6.2f} s", soft_wrap=True)
        for name, figure in self.facts:
            self.console.print(f"      {name:<{width - 4}}  {figure}", soft_wrap=True)
