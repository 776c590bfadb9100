"""Every setting there is, once, with its default and its meaning."""

from typing import Any, NamedTuple


class Setting(NamedTuple):
    """One line of the table below."""

    name: str
    default: Any
    meaning: str
    choices: tuple[str, ...] = ()
    least: float | None = None
    most: float | None = None
    duration: bool = False
    items: type | None = None  # what a tuple holds, where that is checked here
    pair: bool = False  # (height, width) may stand where a number of pixels does
    changes_result: bool = True  # a run may be resumed with another value where this is False


SETTINGS = (
    Setting(
        "seed", 0, "decides everything random: initial parameters, data order, augmentation, dropout", least=0, most=2**32 - 1,
    ),
    Setting("total", "10epochs", "how long to train, as steps, epochs or examples", duration=True),
    Setting("batch_size", 128, "examples a step, over all devices", least=1),
    Setting("devices", 0, "how many of the devices found to use; 0 = all", least=0, changes_result=False),
    Setting(
        "steps_per_dispatch", 0, "most training steps per call to the device, fewer where their batches take more than "
        "256 MiB; 0 = 1 on CPU, where loops are slow, 32 elsewhere",
        least=0, changes_result=False,
    ),
    # task
    Setting(
        "task.name", "classification", "what is learned; or a task of yours by its import path, my_package.my_task:MyTask "
        "(docs/extending.md)",
    ),
    Setting("task.arguments", {}, "its own settings, e.g. --config.task.arguments.temperature=0.5"),
    # model
    Setting(
        "model.name", "lenet5", "the architecture, as jaxcnn.list_models() lists it; or a class of yours by its import path, "
        "my_package.my_net:MyNet (docs/extending.md)",
    ),
    Setting("model.arguments", {}, "its arguments beyond num_classes and dtype, e.g. --config.model.arguments.stem=small"),
    Setting("model.dtype", "float32", "compute type; parameters and statistics stay float32", ("float32", "bfloat16")),
    Setting(
        "model.pretrained", "", "weights to start from: a file in the names of the library that the model is of (.npz, "
        ".safetensors, .pth, .h5), a run's folder, or hf:OWNER/NAME of the hub; where the data have other classes, the head is "
        "fresh; '' = none",
    ),
    Setting(
        "model.adapt_stem", False, "where model.pretrained takes another number of channels than the data have: its first "
        "convolution is summed over them for 1 channel, else repeated over the new ones and scaled",
    ),
    Setting(
        "model.whiten", 0, "training images that the filters of a whitening first layer (airbench94's) are made from; 0 = they "
        "stay as they were drawn", least=0,
    ),
    # data
    Setting("data.name", "digits", "the data set"),
    Setting(  # a run goes on only with the same examples, see jaxcnn/train/fingerprint.py
        "data.root", "", "folder (or file) that holds it; digits needs none", changes_result=False,
    ),
    Setting(
        "data.validation", 0.1, "share of the training set cut off for validation where there is none: "
        "stratified, decided by seed", least=0, most=0.9,
    ),
    Setting(
        "data.resident", "auto", "keep the data set on the device; auto = if it takes at most 2 GiB",
        ("auto", "on", "off"), changes_result=False,
    ),
    Setting(
        "data.threads", 0, "threads that read batches when the data set is streamed (each process has as many), and batches "
        "that are read ahead; 0 = one a core, or one a process",
        least=0, changes_result=False,
    ),
    Setting(
        "data.mean", (), "per-channel mean of pixels in 0…1; () = from model.pretrained, or measured on the training set",
        items=float,
    ),
    Setting("data.std", (), "standard deviation a channel, of pixels in 0…1; () = the same way", items=float),
    Setting(
        "data.test", 0.2, "share of the data set aside for testing where it has no test part: stratified, the same "
        "whatever the seed", least=0, most=0.9,
    ),
    Setting("data.fold", "", '"2/5": the second of five folds is the validation set; "" = data.validation decides'),
    Setting(
        "data.train_split", "", 'tfds, huggingface: what to train on, in their syntax, "train[:90%]"; folder: the folder that '
        'holds the training set\'s class folders, "." for data.root itself, "*/train" for a folder in each class; "" = by name',
    ),
    Setting(
        "data.validation_split", "", 'the validation set, likewise; "" = by name (tfds, huggingface: if there is a test set '
        'too); folder: "off" = none',
    ),
    Setting(
        "data.test_split", "", 'the test set, likewise; "" = by name (tfds, huggingface: or else validation); folder: "off" = '
        "none",
    ),
    Setting("data.features", (), "tfds, huggingface: the image and the label to use, image,label; () = found", items=str),
    Setting("data.group", "", "what no split tears apart: a regular expression over paths (folder), a column (csv)"),
    Setting("data.channels", 0, "3: RGB, grey repeated; 1: grey, luma of RGB; 0: as stored, pictures 3 if any is RGB", least=0),
    Setting("data.fit", "crop", "pictures: centre cut out, padded, or stretched", ("crop", "pad", "stretch")),
    Setting("data.crop_ratio", 0.875, "pictures: share of the shorter side that the centre shows", least=0.1, most=1),
    Setting(
        "data.interpolation", "area", "pictures: how the centre is resized: area (by OpenCV, fast), or as Pillow does, to the "
        "pixels of torchvision's and timm's transforms", ("area", "bilinear", "bicubic", "lanczos"),
    ),
    Setting(
        "data.window", (), "pictures of more than 8 bits: (low, high), the samples that become 0 and 255, (-160, 240) for "
        "Hounsfield units; linear between, cut off beyond; () = the upper 8 bits, where that is possible", items=float,
    ),
    Setting(
        "data.random_crop", (), "pictures, in training: ranges of a random crop's share of the area and of width / height "
        "(over the input's own: 1 distorts nothing), ((0.08, 1.0), (0.75, 1.33)); () = the centre",
    ),
    Setting(
        "data.on_error", "stop", "a picture that can't be read stops the run, or is skipped (training takes another one of "
        "its class), printed, and listed in summary.json",
        ("stop", "skip"), changes_result=False,
    ),
    Setting(
        "data.repeats", 1, "repeated augmentation (Hoffer et al. 2020): so many augmentations of an example side by side, "
        "and an epoch goes through a part of the examples as much smaller", least=1,
    ),
    Setting(
        "data.cache", "off", "pictures: kept, once decoded and resized, in memory or in a file (by a map of it); evaluation "
        "sees the same pixels, random crops are cut from a picture of data.cache_side", ("off", "memory", "disk"),
    ),
    Setting("data.cache_folder", "", 'where that file is; "" = .jaxcnn-cache beside the data', changes_result=False),
    Setting(
        "data.cache_side", 0, "size that a picture is kept in for random crops, one side of a square or height,width; 0 = "
        "twice data.image_size, so that a quarter of it is not enlarged", least=0, most=10_000, pair=True,
    ),
    Setting("data.balanced", False, "training draws every class equally often, those with few examples more than once"),
    Setting("data.workers", 0, "processes that read streamed examples; 0 = data.threads do", least=0, changes_result=False),
    Setting(
        "data.image_size", 0, "pixels that images are brought to: 224, the side of a square, or 192,256, height and width; "
        "0 = as they are stored, and for pictures a square, about the median of their shorter sides", least=0, pair=True,
    ),
    Setting(
        "data.sizes", (), "sizes that training's images are brought to instead, one after the other (progressive resizing) or "
        "drawn every 10 steps: sides of squares, 128,160,192, or pairs, (96,128),(192,256)", items=int, pair=True,
    ),
    Setting(
        "data.size_boundaries", (), 'durations after which the next of data.sizes follows, ("30epochs", "34epochs"); '
        "() = drawn", items=str,
    ),
    Setting("data.resize", "bilinear", "how: interpolated (antialiased), or zero-padded", ("bilinear", "pad")),
    Setting("data.augment", (), 'operations in order: "flip" or ("random_crop", {"pad": 4}); see jaxcnn/data/augment'),
    # loss
    Setting(
        "loss.name", "softmax_cross_entropy", "softmax for one class of many; sigmoid for two classes (one output), "
        "several labels an image, or one against the rest", ("softmax_cross_entropy", "sigmoid_binary_cross_entropy"),
    ),
    Setting("loss.label_smoothing", 0.0, "share of the target spread evenly over the classes", least=0, most=1),
    Setting(
        "loss.balance", "none", "class weights from the training set's counts n: 1 / n (inverse), or (1 - 0.999) / "
        "(1 - 0.999^n), the effective number of examples (Cui et al. 2019)", ("none", "inverse", "effective"),
    ),
    Setting("loss.focal_gamma", 0.0, "focal loss (Lin et al. 2017): each loss times (1 - p)^gamma; 0 = off", least=0),
    Setting(
        "loss.auxiliary_weight", 0.3, "of the loss of each auxiliary head, where a model has any: 0.3 in GoogLeNet's paper, "
        "0.4 for Inception v3", least=0,
    ),
    Setting(
        "loss.class_weights", (), "weight of each class in the training loss: numbers in the order of the classes, 2,1, or "
        "by their names, cat=2,dog=1; () = all 1",
    ),
    # optimizer
    Setting(
        "optimizer.name", "sgd", "update rule, from optax",
        ("sgd", "adam", "adamw", "rmsprop", "lamb", "lion", "adafactor", "muon"),
    ),
    Setting("optimizer.learning_rate", 0.1, "peak learning rate", least=0),
    Setting("optimizer.momentum", 0.9, "sgd, rmsprop, muon", least=0, most=1),
    Setting("optimizer.nesterov", False, "sgd, rmsprop, muon"),
    Setting("optimizer.b1", 0.9, "decay of the first moment: adam, adamw, lamb, lion; muon's adam", least=0, most=1),
    Setting("optimizer.b2", 0.999, "decay of the second moment: the same and rmsprop", least=0, most=1),
    Setting("optimizer.eps", 1e-8, "adam, adamw, rmsprop, lamb; muon's adam", least=0),
    Setting(
        "optimizer.weight_decay", 0.0, "added to the gradient (sgd, adam, rmsprop) or to the update before the "
        "learning rate (adamw, lamb, lion, adafactor, muon)", least=0,
    ),
    Setting(
        "optimizer.weight_decay_factors", (("(^|/)(bias|scale)$", 0.0),), "(regular expression over parameter paths, "
        "factor), the first that matches decides; 1 where none does",
    ),
    Setting("optimizer.learning_rate_factors", (), "the same form; multiplies the learning rate"),
    Setting(
        "optimizer.groups", (), 'parameters with settings optimizer.* and schedule.* of their own: (("bias$", '
        '{"optimizer.name": "sgd", "schedule.total": "3epochs"}), …), regular expressions over paths, the first that matches',
    ),
    Setting("optimizer.muon_steps", 5, "muon: Newton-Schulz iterations", least=1),
    Setting("optimizer.muon_coefficients", (3.4445, -4.775, 2.0315), "muon: of x, x³ and x⁵ in them", items=float),
    Setting("optimizer.muon_dtype", "float32", "muon: what they are computed in", ("float32", "bfloat16")),
    Setting(
        "optimizer.rescale_filters", False, "brings each convolution kernel to the norm √filters before its update "
        "(airbench): a weight decay that knows its aim",
    ),
    Setting(
        "optimizer.freeze", (), "regular expressions; the parameters that match are not trained, and batch norm all of whose "
        "parameters match keeps and uses its running statistics", items=str,
    ),
    Setting("optimizer.clip_norm", 0.0, "gradients are scaled down to this global norm; 0 = not", least=0),
    Setting("optimizer.accumulate", 1, "parts that a batch is computed in, one after the other, to save memory", least=1),
    # schedule
    Setting(
        "schedule.name", "cosine", "course of the learning rate after the warm-up",
        ("constant", "steps", "cosine", "linear", "one_cycle"),
    ),
    Setting("schedule.total", "", 'the rate has reached its end after this, and stays; "" = as training ends', duration=True),
    Setting("schedule.warmup", "0steps", "linear rise to the peak; one_cycle: its rising part, 30 % if 0", duration=True),
    Setting("schedule.warmup_start", 0.0, "share of the peak at which the warm-up starts", least=0, most=1),
    Setting("schedule.boundaries", (), "steps: durations after which the rate is multiplied by schedule.factor", items=str),
    Setting("schedule.factor", 0.1, "steps: that factor", least=0),
    Setting("schedule.final", 0.0, "cosine, linear: share of the peak at the end", least=0, most=1),
    # the rest of a run
    Setting(
        "ema.decay", 0.0, "decay of the weights' moving average, which is evaluated too and used at the end; rises to it "
        "as (1 + step) / (10 + step); 0 = no average", least=0, most=1,
    ),
    Setting("evaluate.every", "1epochs", "interval of evaluations on the validation set", duration=True),
    Setting("evaluate.batch_size", 256, "examples a batch of evaluation", least=1, changes_result=False),
    Setting(
        "evaluate.select", "best", "which parameters are tested at the end: those best in validation accuracy "
        "(the last where there is no validation set), or the last", ("best", "last"),
    ),
    Setting(
        "evaluate.metric", "", 'the quantity that selects the best parameters and stops early, such as loss; "" = the task\'s '
        "own, accuracy for classification",
    ),
    Setting(
        "evaluate.views", (), 'test-time augmentation, averaged over: "flip", ("shift", {"pixels": 1}), …; see '
        "jaxcnn/data/augment/test_time.py",
    ),
    Setting("early_stop.patience", 0, "stop after so many evaluations with no better validation accuracy; 0 = never", least=0),
    Setting("early_stop.min_delta", 0.0, "by how much better it must be to count", least=0),
    Setting("checkpoint.every", "1epochs", "interval of checkpoints", duration=True, changes_result=False),
    Setting("checkpoint.keep", 2, "latest checkpoints kept, beside the best", least=1, changes_result=False),
    Setting("log.every", "50steps", "interval of lines of training metrics", duration=True, changes_result=False),
)  # fmt: skip
