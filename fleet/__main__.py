"""The command `fleet`: what each subcommand takes. What it does and prints is in a file of its own."""

from __future__ import annotations

import os
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import Annotated, TextIO

import typer
from pydantic import ValidationError

from fleet.exits import CommandError, Exit
from fleet.new import Kind
from schemas.settings import LocalSettings, complaint, unknown_variables

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Runs Turnfleet and talks to it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
topics_app = typer.Typer(no_args_is_help=True, help="Compares or mends the cluster's topics.")
session_app = typer.Typer(no_args_is_help=True, help="Shows or deletes a session.")
letters_app = typer.Typer(no_args_is_help=True, help="Records that were refused, turns that were given up.")
prices_app = typer.Typer(no_args_is_help=True, help="What tokens cost.")
chaos_app = typer.Typer(no_args_is_help=True, help="Breaks the fleet on purpose, and proves that it kept its word.")
agents_app = typer.Typer(help="The agents that workers started here would have, and their tools.")
pins_app = typer.Typer(no_args_is_help=True, help="What MCP servers offer, and what was accepted of it.")
agents_app.add_typer(pins_app, name="pins")
app.add_typer(agents_app, name="agents")
app.add_typer(chaos_app, name="chaos")
app.add_typer(prices_app, name="prices")
app.add_typer(topics_app, name="topics")
app.add_typer(session_app, name="session")
app.add_typer(letters_app, name="dead-letters")

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]
Data = Annotated[Path | None, typer.Option("--data", help="Data directory; default: FLEET_DATA, .turnfleet")]
Agents = Annotated[
    list[str] | None,
    typer.Option("--agents", help="A registry `module:name` of this folder, beside FLEET_AGENTS; may be repeated."),
]
User = Annotated[str, typer.Option("--user", help="Who says it.")]
Sessions = Annotated[bool, typer.Option("--sessions", help="Asks the database how many sessions run each version.")]
Session = Annotated[str, typer.Argument(help="A session id.")]
LetterIds = Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="Ids as `list` prints them.")]
Every = Annotated[bool, typer.Option("--all", help="Every letter that is not done and that the filters leave.")]
Codes = Annotated[list[str] | None, typer.Option("--code", help="Only with this code; may be given more than once.")]
OfSession = Annotated[str | None, typer.Option("--session", help="Only of this session.")]
Since = Annotated[str | None, typer.Option("--since", help="Written at this moment or later: 2h (ago) or ISO 8601.")]
Until = Annotated[str | None, typer.Option("--until", help="Written before this moment.")]

Server = Annotated[str, typer.Argument(help="Its name in the file of MCP servers.")]
ToolName = Annotated[str, typer.Argument(help="The server's name for it.")]
Digest = Annotated[str | None, typer.Option("--digest", help="Only if this is (the beginning of) what is offered.")]


@app.command()
def up(
    workers: Annotated[int | None, typer.Option("--workers", min=1, max=64, help="Default: FLEET_WORKERS, 2")] = None,
    agents: Agents = None,
    data: Data = None,
) -> None:
    """Everything on this machine, in the foreground: broker, database, model, gateway, workers. Ctrl-C drains."""
    from fleet.up import up as run

    settings = LocalSettings()
    raise SystemExit(run(data or settings.data, workers=workers or settings.workers, agents=agents or ()))


@app.command("new")
def new_agent(
    name: Annotated[str, typer.Argument(help="The agent's name, and its folder's.")],
    kind: Annotated[Kind, typer.Option("--kind", help="What it is to begin with.")] = Kind.CHAT,
) -> None:
    """Writes a small project here: an agent, its test, a README."""
    from fleet.new import new as run

    raise SystemExit(run(name, kind, Path.cwd()))


@app.command()
def chat(
    session: Annotated[
        str | None, typer.Option("--session", help="Goes on with this session; default: a new one.")
    ] = None,
    agent: Annotated[str | None, typer.Option("--agent", help="Which agent; default: the session's.")] = None,
    user: User = "anonymous",
    data: Data = None,
) -> None:
    """Talks to the fleet through the gateway. Ctrl-C cancels the running turn, Ctrl-D leaves."""
    from fleet.chat import chat as run

    raise SystemExit(run(data, session=session, agent=agent, user=user))


@app.command()
def send(
    session: Session,
    text: Annotated[str, typer.Argument(help="What the user says.")],
    wait: Annotated[bool, typer.Option("--wait", help="Until the turn has ended; prints the answer.")] = False,
    user: User = "anonymous",
    agent: Annotated[str | None, typer.Option("--agent", help="Which agent; default: the session's.")] = None,
    turn: Annotated[str | None, typer.Option("--turn", help="The turn id; the same id again changes nothing.")] = None,
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="How long --wait waits, in seconds.")] = 120.0,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Produces one turn straight to Kafka, as an outside producer would."""
    from fleet.send import Wish
    from fleet.send import send as run

    wish = Wish(session=session, text=text, user=user, agent=agent, turn=turn)
    raise SystemExit(run(data, wish, wait_s=timeout_s if wait else None, as_json=as_json))


@topics_app.command("check")
def topics_check(as_json: Json = False, data: Data = None) -> None:
    """Prints how the cluster differs from topics.yaml; exit code 1 if it does."""
    from fleet.topics_command import check

    raise SystemExit(check(data, as_json=as_json))


@topics_app.command("apply")
def topics_apply(as_json: Json = False, data: Data = None) -> None:
    """Creates and alters what Kafka allows; exit code 1 if something had to be refused."""
    from fleet.topics_command import apply

    raise SystemExit(apply(data, as_json=as_json))


@session_app.command("show")
def session_show(
    session: Session,
    tenant: Annotated[str, typer.Option("--tenant")] = "default",
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Prints state, agent, turns and history, read from the journal."""
    from fleet.session import show

    raise SystemExit(show(data, tenant, session, as_json=as_json))


@session_app.command("delete")
def session_delete(
    session: Session,
    tenant: Annotated[str, typer.Option("--tenant")] = "default",
    timeout_s: Annotated[float, typer.Option("--timeout-s", help="How long to wait for the ack, in seconds.")] = 30.0,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Forgets a session: its owner removes the contents and acknowledges."""
    from fleet.session import delete

    raise SystemExit(delete(data, tenant, session, timeout_s=timeout_s, as_json=as_json))


@letters_app.command("list")
def letters_list(
    code: Codes = None,
    session: OfSession = None,
    since: Since = None,
    until: Until = None,
    all_states: Annotated[bool, typer.Option("--all-states", help="Also those that are done.")] = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Prints the dead letters that nobody has redriven or discarded."""
    from fleet.dead_letters import list_letters, wanted_of

    wanted = wanted_of(code, session, since, until)
    raise SystemExit(list_letters(data, wanted, all_states=all_states, as_json=as_json))


@letters_app.command("show")
def letters_show(
    letter: Annotated[str, typer.Argument(metavar="ID", help="An id as `list` prints it.")],
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Prints one letter with the original record's headers and bytes."""
    from fleet.dead_letters import show

    raise SystemExit(show(data, letter, as_json=as_json))


@letters_app.command("redrive")
def letters_redrive(
    ids: LetterIds = None,
    every: Every = False,
    code: Codes = None,
    session: OfSession = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Publishes the original records again, in their order; doing it twice has no second effect."""
    from fleet.dead_letters import chosen, redrive_letters, wanted_of

    choice = chosen(ids, every=every, wanted=wanted_of(code, session, since, until))
    raise SystemExit(redrive_letters(data, choice, as_json=as_json))


@letters_app.command("discard")
def letters_discard(
    ids: LetterIds = None,
    every: Every = False,
    code: Codes = None,
    session: OfSession = None,
    since: Since = None,
    until: Until = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Marks letters as done: `list` hides them, and they are not redriven."""
    from fleet.dead_letters import chosen, discard_letters, wanted_of

    choice = chosen(ids, every=every, wanted=wanted_of(code, session, since, until))
    raise SystemExit(discard_letters(data, choice, as_json=as_json))


@chaos_app.command("check")
def chaos_check(
    settled: Annotated[
        bool, typer.Option("--settled", help="The load is over: what has not ended is a breach.")
    ] = False,
    least: Annotated[int, typer.Option("--least", min=0, help="So many turns must have ended for a pass.")] = 1,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Proves from topics and MongoDB alone that no turn was lost, doubled or reordered; exit code 1 if one was."""
    from fleet.chaos.check import check

    raise SystemExit(check(data, settled=settled, least=least, as_json=as_json))


@chaos_app.command("run")
def chaos_run(
    minutes: Annotated[float, typer.Option("--minutes", min=0.1, help="How long the load lasts.")] = 2.0,
    seed: Annotated[int, typer.Option("--seed", help="Decides traffic and faults.")] = 1,
    faults: Annotated[str, typer.Option("--faults", help="Comma separated; default: all that can be broken.")] = "",
    every_s: Annotated[float, typer.Option("--every-s", min=0.5, help="Pause between two faults, on average.")] = 6.0,
    rate: Annotated[float, typer.Option("--rate", min=0.1, help="Turns a second.")] = 40.0,
    sessions: Annotated[int, typer.Option("--sessions", min=1, help="How many sessions speak.")] = 100,
    workers: Annotated[int, typer.Option("--workers", min=1, max=16)] = 2,
    kafka: Annotated[str | None, typer.Option("--kafka", help="apache or embedded; default: what is there.")] = None,
    brokers: Annotated[int, typer.Option("--brokers", min=1, max=9, help="Of Apache Kafka; three: replicated.")] = 1,
    mongods: Annotated[int, typer.Option("--mongods", min=1, max=7, help="Members of the replica set.")] = 1,
    least: Annotated[int | None, typer.Option("--least", help="Completed turns; default: half of the load.")] = None,
    out: Annotated[Path, typer.Option("--out", help="Folder of the report.")] = Path("chaos-report"),
    force: Annotated[int, typer.Option("--force", count=True, help="Twice: break an unmarked cluster.")] = 0,
    as_json: Json = False,
) -> None:
    """Load, faults and the check in one command, on a stack of its own; exit code 1 if a promise broke."""
    from fleet.chaos.run import Wish, engine, named, run

    wish = Wish(
        minutes=minutes,
        seed=seed,
        faults=named(faults),
        every_s=every_s,
        rate=rate,
        sessions=sessions,
        workers=workers,
        kafka=engine(kafka),
        brokers=brokers,
        mongods=mongods,
        least=least,
        out=out,
        forced=force,
    )
    raise SystemExit(run(wish, as_json=as_json))


@app.command()
def drain(
    worker: Annotated[str | None, typer.Argument(metavar="[WORKER]", help="Of `fleet up`: worker-1, or 1.")] = None,
    pid: Annotated[int | None, typer.Option("--pid", min=1, help="A worker that `fleet up` did not start.")] = None,
    here: Annotated[bool, typer.Option("--here", help="The worker of this pod: FLEET_WORKER_NAME says which.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is gone; of `fleet up`: and ready again.")] = False,
    timeout_s: Annotated[
        float | None, typer.Option("--timeout-s", help="How long --wait waits, in seconds; default: the grace period.")
    ] = None,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Stops a worker in order, as SIGTERM does: its turns end or are handed over. A second time: at once."""
    from fleet.drain import drain as run

    raise SystemExit(run(data, worker, pid=pid, here=here, wait=wait, timeout_s=timeout_s, as_json=as_json))


@prices_app.command("check")
def prices_check(
    file: Annotated[Path | None, typer.Argument(help="A price table; default: FLEET_PRICES.")] = None,
    as_json: Json = False,
) -> None:
    """Reads a price table as a worker would at its start; exit code 2 with a sentence if it would not start."""
    from fleet.prices import check

    raise SystemExit(check(file, as_json=as_json))


@agents_app.callback(invoke_without_command=True)
def agents(context: typer.Context, as_json: Json = False, sessions: Sessions = False, data: Data = None) -> None:
    """Lists the agents that workers started here would have; with --sessions, how many sessions run each version."""
    from fleet.agents import agents as run

    if context.invoked_subcommand is None:
        raise SystemExit(run(data, sessions=sessions, as_json=as_json))


@agents_app.command("check")
def agents_check(
    connect: Annotated[
        bool, typer.Option("--connect", help="Open each MCP server and list its tools with their pins.")
    ] = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """Whether the agents and the file of MCP servers (FLEET_MCP) can be used; exit code 1: a server is away."""
    from fleet.agents_check import check

    raise SystemExit(check(data, connect=connect, as_json=as_json))


@pins_app.command("list")
def pins_list(
    waiting: Annotated[bool, typer.Option("--waiting", help="Only what is suspended.")] = False,
    as_json: Json = False,
    data: Data = None,
) -> None:
    """What MCP servers offer, and what was accepted of it."""
    from fleet.pins import list_pins

    raise SystemExit(list_pins(data, waiting=waiting, as_json=as_json))


@pins_app.command("accept")
def pins_accept(server: Server, tool: ToolName, digest: Digest = None, data: Data = None) -> None:
    """Takes a tool as it is offered now."""
    from fleet.pins import decide

    raise SystemExit(decide(data, server, tool, digest=digest, accept=True))


@pins_app.command("revoke")
def pins_revoke(server: Server, tool: ToolName, data: Data = None) -> None:
    """Suspends a tool until it is accepted again."""
    from fleet.pins import decide

    raise SystemExit(decide(data, server, tool, digest=None, accept=False))


def lenient(*streams: TextIO) -> None:
    """What a stream cannot hold is a question mark on it, no end of the command: bytes that are no text, half of a
    surrogate pair, a terminal that knows ASCII alone."""
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def main() -> None:
    """The entry point."""
    lenient(sys.stdin, sys.stdout)
    for sentence in unknown_variables(os.environ):
        print(f"fleet: {sentence}", file=sys.stderr)
    try:
        app(standalone_mode=True)
    except CommandError as error:
        print(f"fleet: {error.text}", file=sys.stderr)
        raise SystemExit(error.code) from None
    except ValidationError as error:
        print(f"fleet: {complaint(error)}", file=sys.stderr)
        raise SystemExit(Exit.USAGE) from None
    except KeyboardInterrupt:
        raise SystemExit(Exit.INTERRUPTED) from None


if __name__ == "__main__":
    main()
