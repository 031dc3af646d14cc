"""Hold what infer writes, in the order of `deeplabctl.choices`."""

from deeplabctl import choices
from deeplabctl.prediction.outputs.output import Output

OUTPUTS: tuple[Output, ...] = tuple(output(name) for name, output in choices.load_classes(choices.OUTPUTS).items())
