"""Train in this process, and stop or die at a chosen moment."""

from deeplabctl.training.plan import plan_resume
from deeplabctl.training.run_directory import RunDirectory


class KilledError(Exception):
    """Stand for a kill."""


def train_new(plan, path, **arguments):
    from deeplabctl.training.loop import train_plan

    with RunDirectory.create(path, plan.recipe, "set") as run:
        return train_plan(plan, run, **arguments)


def resume(path, **arguments):
    from deeplabctl.training.loop import train_plan

    plan, checkpoint = plan_resume(path)
    with RunDirectory.open(path) as run:
        run.resume(plan.recipe)
        return train_plan(plan, run, checkpoint=checkpoint, **arguments)


def after(calls, dies=False):
    """Return a function that says yes from its call number ``calls`` on, or raises KilledError."""
    asked = []

    def should_stop():
        asked.append(1)
        if dies and len(asked) >= calls:
            raise KilledError
        return len(asked) >= calls

    return should_stop
