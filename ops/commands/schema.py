"""`imagepipe schema`: create the keyspace and run its missing migrations."""

import typer

from ops.settings import load_settings
from ops.terminal.options import AsJson, DeploymentRoot, DryRun, Yes
from ops.terminal.output import DIFFERENCES_FOUND, Output
from shared.cassandra.schema import apply_schema, plan_schema

app = typer.Typer(no_args_is_help=True, help="Create the keyspace and run its missing migrations.")


def register(parent: typer.Typer) -> None:
    """Add the commands."""
    parent.add_typer(app, name="schema")


@app.command()
def plan(root: DeploymentRoot = None, as_json: AsJson = False) -> None:
    """Show the migrations that `apply` would run. The exit code is 1 if there are any."""
    settings = load_settings(root)
    pending = plan_schema(settings)
    document = {"keyspace": settings.cassandra_keyspace, "pending": pending}
    Output(as_json).document(document, [f"run     {name}" for name in pending] or ["The schema is up to date."])
    if pending:
        raise typer.Exit(DIFFERENCES_FOUND)


@app.command("apply")
def apply_(root: DeploymentRoot = None, as_json: AsJson = False, dry_run: DryRun = False, yes: Yes = False) -> None:
    """Run the missing migrations, in order. You can repeat this."""
    settings, output = load_settings(root), Output(as_json)
    pending = plan_schema(settings)
    lines = [f"run     {name} in keyspace {settings.cassandra_keyspace}" for name in pending]
    done = apply_schema(settings) if pending and output.confirmed(lines, dry_run=dry_run, yes=yes) else []
    output.document({"keyspace": settings.cassandra_keyspace, "applied": done}, [f"{len(done)} migrations were run."])
