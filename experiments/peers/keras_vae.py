"""The VAE of configs/vae.py:keras as Keras 3 would have it: a Model with its own train_step, and fit."""

import os
import time
from typing import Any

import numpy as np

from experiments.peers.worker import Contestants, Program


def model() -> Any:
    """784-256-2-256-784, mean squared error times 1000 plus KL, Adam 1e-3; compiled, jit_compile by default."""
    import keras
    import tensorflow as tf
    from keras import layers, ops

    class VAE(keras.Model):
        """Images f32[B, 784] in [0, 1]."""

        def __init__(self):
            super().__init__()
            self.encoder = keras.Sequential([layers.Dense(256, "relu"), layers.Dense(4)])
            self.decoder = keras.Sequential([layers.Dense(256, "relu"), layers.Dense(784, "sigmoid", dtype="float32")])
            self.seed_generator = keras.random.SeedGenerator(0)
            self.loss_tracker = keras.metrics.Mean("loss")

        def objective(self, x, noise):
            """The loss, averaged over the batch, at z = mean + sigma * noise."""
            mean, log_var = ops.split(ops.cast(self.encoder(x), "float32"), 2, axis=1)
            reconstruction = self.decoder(mean + ops.exp(0.5 * log_var) * noise)
            squared_error = ops.mean(ops.square(x - reconstruction))
            kl = -0.5 * ops.mean(ops.sum(1 + log_var - ops.square(mean) - ops.exp(log_var), axis=1))
            return 1000.0 * squared_error + kl

        def descend(self, x, noise):
            """One step of the optimizer; the loss before it."""
            with tf.GradientTape() as tape:
                loss = self.objective(x, noise)
            gradients = tape.gradient(loss, self.trainable_weights)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
            return loss

        def train_step(self, x):
            noise = keras.random.normal((ops.shape(x)[0], 2), seed=self.seed_generator)
            self.loss_tracker.update_state(self.descend(x, noise))
            return {"loss": self.loss_tracker.result()}

        @property
        def metrics(self):
            return [self.loss_tracker]

    vae = VAE()
    vae.encoder.build((None, 784))
    vae.decoder.build((None, 2))
    vae.built = True
    vae.compile(optimizer=keras.optimizers.Adam(1e-3, epsilon=1e-8))
    return vae


def contestants(images: np.ndarray, batch_size: int, precision: str, platform: str, threads: int) -> Contestants:
    """`fit`, timed from the beginning of an epoch to its end, on as many images as asked for.

    Args:
        images: uint8[N, 28, 28, 1]; held as floats, as the tutorial does.
        batch_size: B.
        precision: "float32", or "bfloat16" by Keras's mixed precision.
        platform: "cpu" | "gpu".
        threads: not heeded; Keras has as many as it takes.
    """
    del threads
    os.environ["KERAS_BACKEND"] = "tensorflow"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # warnings and worse
    import keras
    import tensorflow as tf

    library, devices = f"Keras {keras.version()}", tf.config.list_physical_devices("GPU")
    if platform == "gpu" and not devices:
        return Contestants([], [f"{library} is left out: TensorFlow {tf.__version__} finds no GPU here"])
    if platform == "cpu":
        tf.config.set_visible_devices([], "GPU")
    for device in devices:
        tf.config.experimental.set_memory_growth(device, True)  # or it would take all there is
    if precision == "bfloat16":
        keras.config.set_dtype_policy("mixed_bfloat16")
    keras.utils.set_random_seed(0)
    data = images.reshape(len(images), -1).astype(np.float32) / 255  # [N, 784]
    vae = model()

    class Epoch(keras.callbacks.Callback):
        """Seconds in epochs, without what `fit` prepares before."""

        seconds = 0.0

        def on_epoch_begin(self, epoch, logs=None):
            self.began = time.perf_counter()

        def on_epoch_end(self, epoch, logs=None):
            self.seconds += time.perf_counter() - self.began

    def run(num_steps: int) -> float:
        clock = Epoch()
        while num_steps > 0:
            steps = min(num_steps, len(data) // batch_size)
            vae.fit(data[: steps * batch_size], batch_size=batch_size, epochs=1, verbose=0, callbacks=[clock])
            num_steps -= steps
        return clock.seconds

    compile_seconds = run(1) - run(1)
    name = f"{library} fit, TensorFlow {tf.__version__}, jit_compile={vae.jit_compile} by default"
    return Contestants([Program(name, run, compile_seconds, short="Keras fit")])
