"""Fewer seconds a test."""

import jax


def compile_quickly(function, *arguments):
    """`function` for such arguments, without XLA's costly optimisations: compiling takes most of the time here."""
    options = {"xla_backend_optimization_level": 0, "xla_llvm_disable_expensive_passes": True}
    return jax.jit(function).lower(*arguments).compile(compiler_options=options)


def compiled(function, *arguments):
    """`function(*arguments)`, compiled."""
    return compile_quickly(function, *arguments)(*arguments)
