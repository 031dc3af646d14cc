"""List what infer writes; an output is an object of its own, and an entry here."""

from deeplabctl.prediction.outputs.annotation_files import Areas, CocoOutput, LabelmeOutput
from deeplabctl.prediction.outputs.image_files import ContactSheetImage, Mask, Overlay, ScoresFile
from deeplabctl.prediction.outputs.output import Output

# In the order of JSON. Files are written from the last to the first: a mask stands for a finished image.
OUTPUTS: tuple[Output, ...] = (
    Mask(), Overlay(), ScoresFile(), Areas(), CocoOutput(), LabelmeOutput(), ContactSheetImage(),
)  # fmt: skip
