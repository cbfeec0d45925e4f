"""The command `fleet`: what each subcommand takes. What it does and prints is in a file of its own."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from pydantic import ValidationError

from fleet.exits import CommandError, Exit
from schemas.settings import PREFIX, LocalSettings, unknown_variables

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Runs Turnfleet and talks to it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
topics_app = typer.Typer(no_args_is_help=True, help="Compares or mends the cluster's topics.")
session_app = typer.Typer(no_args_is_help=True, help="Shows or deletes a session.")
app.add_typer(topics_app, name="topics")
app.add_typer(session_app, name="session")

Json = Annotated[bool, typer.Option("--json", help="For programs: JSON on standard output.")]
Data = Annotated[Path | None, typer.Option("--data", help="Data directory; default: FLEET_DATA, .turnfleet")]
User = Annotated[str, typer.Option("--user", help="Who says it.")]
Session = Annotated[str, typer.Argument(help="A session id.")]


@app.command()
def up(
    workers: Annotated[int | None, typer.Option("--workers", min=1, max=64, help="Default: FLEET_WORKERS, 2")] = None,
    data: Data = None,
) -> None:
    """Everything on this machine, in the foreground: broker, database, model, gateway, workers. Ctrl-C drains."""
    from fleet.up import up as run

    settings = LocalSettings()
    raise SystemExit(run(data or settings.data, workers=workers or settings.workers))


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


@app.command()
def agents(as_json: Json = False) -> None:
    """Lists the agents that workers started here would have."""
    from fleet.agents import agents as run

    raise SystemExit(run(as_json=as_json))


def bad_setting(error: ValidationError) -> str:
    """A setting that cannot be read, by the name of its variable."""
    complaint = error.errors(include_url=False, include_input=False)[0]
    return f"{PREFIX}{'_'.join(str(step) for step in complaint['loc']).upper()}: {complaint['msg']}"


def main() -> None:
    """The entry point."""
    for sentence in unknown_variables(os.environ):
        print(f"fleet: {sentence}", file=sys.stderr)
    try:
        app(standalone_mode=True)
    except CommandError as error:
        print(f"fleet: {error.text}", file=sys.stderr)
        raise SystemExit(error.code) from None
    except ValidationError as error:
        print(f"fleet: {bad_setting(error)}", file=sys.stderr)
        raise SystemExit(Exit.USAGE) from None
    except KeyboardInterrupt:
        raise SystemExit(Exit.INTERRUPTED) from None


if __name__ == "__main__":
    main()
