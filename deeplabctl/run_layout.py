"""Name what is in the directory of a training run.

recipe.toml      fully resolved: it runs again as given
run.json         argv, versions, git, device, seed, status
metrics.jsonl    a line for each logged step and validation
curves.png       loss, learning rate and validations, drawn from the metrics
report.html      settings, curves, classes and previews on one page, at the end
log.txt          notes and figures, with the time of day
checkpoints/     what a resumed training starts from: step-000500.npz
best.keras       the model with the best validation mIoU
last.keras       the model of the last step
previews/        step-000500.png: image, label, prediction
tensorboard/     the same scalars and previews, where the package tensorboard is installed
"""

RECIPE, FACTS, METRICS_LOG, LOG = "recipe.toml", "run.json", "metrics.jsonl", "log.txt"
CURVES, REPORT = "curves.png", "report.html"
CHECKPOINTS, PREVIEWS, TENSORBOARD = "checkpoints", "previews", "tensorboard"
BEST, LAST = "best.keras", "last.keras"
