"""Every test runs under strict dtype promotion, with warnings as errors, on eight devices faked from the CPU."""

import os
import pathlib

from compilation import QUICK

os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), "--xla_force_host_platform_device_count=8", QUICK])
os.environ.setdefault("MPLBACKEND", "Agg")
os.environ.setdefault("GENLAB_CACHE", str(pathlib.Path(__file__).parent.parent / ".cache" / "data"))

import jax

CACHE = pathlib.Path(__file__).parent.parent / ".cache" / "jax"

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_compilation_cache_dir", str(CACHE))
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.1)
jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
