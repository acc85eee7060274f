"""The fields every recipe shares. A recipe starts from these and sets what differs; some add those of a use."""

import ml_collections


def get_config() -> ml_collections.ConfigDict:
    """The shared fields at their defaults; durations are in optimizer steps."""
    config = ml_collections.ConfigDict()
    config.seed = 0
    config.num_steps = 10_000
    config.batch_size = 128
    config.log_every_steps = 500
    config.eval_every_steps = 2_500
    config.checkpoint_every_steps = 2_500
    config.figure_every_steps = 2_500
    config.steps_per_call = 100  # steps in one compiled call; results do not depend on it
    config.population = ml_collections.config_dict.placeholder(object)  # 8: that many seeds | "model.beta=1,4 seed=0,1"
    config.population_mode = "auto"  # of a population's program: "vmap" | "loop" | "auto": on a CPU the faster one
    config.devices = 1  # that share the work, of a batch or of a population; 0: all there are
    config.precision = "float32"  # of the networks: "float32" | "bfloat16"; parameters and losses stay float32
    config.ema_decay = 0.0  # of the moving average of parameters that is evaluated; 0: the raw parameters

    config.data = ml_collections.ConfigDict()
    config.data.name = "mnist_5k"
    config.data.data_dir = ""  # where a prepared TFDS set lies; "" is TFDS's own default
    config.data.placement = "device"  # "device": all of it in accelerator memory | "stream": read as needed
    config.data.binarization = "none"  # "none" | "dynamic": every visit draws pixels ~ Bernoulli(intensity)
    config.data.num_validation = 500  # examples held out of the training split
    config.data.image_size = 0  # side to which images are cropped and resized; 0: as stored
    config.data.padding = 0  # black pixels that are then added on every side: 2 makes 28x28 images 32x32

    config.optimizer = ml_collections.ConfigDict()
    # "adam" | "adamw" | "sgd" | "rmsprop" | "nadam", for games "optimistic_sgd" | "optimistic_adam"
    config.optimizer.name = "adam"
    config.optimizer.learning_rate = 1e-3
    config.optimizer.schedule = "constant"  # "constant" | "cosine" | "linear" | "burda"
    config.optimizer.warmup_steps = 0
    config.optimizer.b1 = 0.9  # decay of the first moment, or momentum of sgd
    config.optimizer.b2 = 0.999  # decay of the second moment
    config.optimizer.eps = 1e-8
    config.optimizer.weight_decay = 0.0  # of adamw
    config.optimizer.clip_norm = 0.0  # global gradient norm; 0: no clipping

    config.evaluation = ml_collections.ConfigDict()
    config.evaluation.batch_size = 500
    config.evaluation.num_samples = 1_000  # generated into samples.npz
    config.evaluation.code_view = "pca"  # how codes are laid out in the plane: "pca" | "tsne"
    # of images, in whose features distances of samples are taken: "none" | "classifier" of ours | file of FID's weights
    config.evaluation.extractor = "none"
    config.evaluation.few_labels = ()  # (100, 1000): classifiers from so many labels, with and without pretraining
    config.evaluation.corruption = "none"  # of the images that are to be restored: "none" | "gaussian" | "masking"
    config.evaluation.corruption_level = 0.0  # standard deviation, or the probability that a pixel is set to zero

    config.writers = ("jsonl",)  # plus "tensorboard", "wandb"
    return config


def add_classifier(config: ml_collections.ConfigDict, family: str) -> ml_collections.ConfigDict:
    """Adds the fields of experiments.classifier to a recipe of p(x | y)."""
    config.classifier = ml_collections.ConfigDict()
    config.classifier.family = family  # whose fields those of the model are: "vae" | "flow" | "autoregressive"
    config.classifier.num_importance_samples = 20  # of a VAE's log p(x | y) under every label
    config.classifier.confidence = "posterior"  # by which answers are withheld: "posterior" | "density"
    config.classifier.coverage = 0.95  # share of the answers that are given
    config.classifier.reject = "combined"  # by which inputs are foreign: "density" | "typicality" | "combined"
    config.classifier.reject_rate = 0.05  # of the threshold, on validation images
    config.classifier.num_foreign = 1_000  # images in a foreign set, at most
    config.classifier.ppca_code_dims = (8, 16, 32, 64)  # from which k is chosen; () for no PPCA
    return config


def add_novelty(config: ml_collections.ConfigDict, model: str) -> ml_collections.ConfigDict:
    """Adds the fields of experiments.novelty to a recipe."""
    config.novelty = ml_collections.ConfigDict()
    config.novelty.classes = tuple(range(10))  # the labels that are normal, one after the other
    config.novelty.false_positive_rate = 0.05  # of the threshold, on normal examples
    config.novelty.model = model  # whose fields those of the model are: "autoencoder" | "flow" | "autoregressive"
    config.novelty.contrast = model == "autoencoder"  # it sees every image at mean 0 and standard deviation 1
    # of the model: "reconstruction" | "density"
    config.novelty.score = "reconstruction" if model == "autoencoder" else "density"
    config.novelty.pca_code_dims = (4, 8, 12, 16, 24, 32, 48, 64, 96, 128)  # from which k is chosen
    return config
