"""Compilation that saves time in tests."""

import jax


def compile_quickly(function, *arguments):
    """Compiles `function` for such arguments without XLA's costly optimizations, as compiling takes most of a test's time."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*arguments).compile(compiler_options=options)


def compiled(function, *arguments):
    """Returns `function(*arguments)`, compiled by `compile_quickly`."""
    return compile_quickly(function, *arguments)(*arguments)
