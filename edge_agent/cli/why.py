"""`edge-agent why`: the story of one verdict."""

import json
from contextlib import closing
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from edge_agent.app.why import Story

EPILOG = "Example: edge-agent why last reject"


def why(
    part: Annotated[
        list[str],
        typer.Argument(
            metavar="PART",
            help="A part's id (top-1834), its verdict's number (1834), its trigger's id, last, or last reject.",
        ),
    ],
    config: Annotated[
        str | None, typer.Option("--config", "-c", metavar="NAME|FILE", help="Which agent, where there are several.")
    ] = None,
    camera: Annotated[str | None, typer.Option("--camera", help="Of this camera.")] = None,
    session: Annotated[
        str | None, typer.Option("--session", help="Of this session, or of one that begins so; else of the newest.")
    ] = None,
    *,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Tell why a part got its verdict, and what became of it.

    What came, what was seen, which rule objected, how long it took,
    what broker and arm said, and what else was wrong just then.
    From the flight recorder on this device, also while the agent is down.
    """
    from edge_agent.app.flight import flight_of
    from edge_agent.app.instances import find as find_instance
    from edge_agent.app.why import Question, find, tell

    with closing(flight_of(find_instance(config))) as flight:
        story = tell(flight, find(flight, Question(" ".join(part), camera, session)))
    if as_json:
        typer.echo(json.dumps(_document(story), indent=2))
    else:
        _show(story)


def _show(story: "Story") -> None:
    from edge_agent.app.flight_lines import for_a_terminal
    from edge_agent.app.why_words import sections

    for number, section in enumerate(sections(story)):
        indent = "  " if number else ""
        typer.secho(("\n" if number else "") + for_a_terminal(section.title), bold=True)
        typer.echo("\n".join(indent + for_a_terminal(line) for line in section.lines))


def _document(story: "Story") -> dict[str, Any]:
    from edge_agent.app.flight_lines import document_of

    about = story.about
    return {
        "part_id": about.part_id,
        "camera": about.camera,
        "seq": about.seq,
        "session": story.result["session"],
        "verdict": story.result["verdict"],
        "result": story.result,
        "setting": story.setting,
        "fates": [document_of(fate) for fate in story.fates],
        "picture": str(story.picture) if story.picture else None,
        "around": [document_of(entry) for entry in story.around],
    }
