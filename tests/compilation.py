"""What makes XLA compile quickly, which is most of what tests do: programs run a few steps on a few numbers."""

QUICK = " ".join([
    "--xla_backend_optimization_level=0",
    "--xla_llvm_disable_expensive_passes=true",
    # the kernels of fusions by way of MLIR, which has passes of its own, take three times as long
    "--xla_cpu_use_fusion_emitters=false",
    "--xla_cpu_parallel_codegen_split_count=1",
])  # fmt: skip
