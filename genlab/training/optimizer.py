"""From the `optimizer` block of a config to an optax transformation."""

import optax

from genlab.errors import InputError


def learning_rate_schedule(name: str, peak: float, num_steps: int, warmup_steps: int = 0) -> optax.Schedule:
    """The learning rate as a function of the step.

    Args:
        name: "constant"; "cosine" or "linear", to zero at num_steps; "burda", eight stages that last 3^i parts
            of num_steps at peak * 10^(-i/7), i = 0..7 (Burda et al. 2016, section 5).
        peak: the rate at the end of warm-up.
        num_steps: of the whole run, warm-up included.
        warmup_steps: of linear growth from zero.

    Raises:
        InputError: on an unknown name, or warm-up longer than the run.
    """
    if warmup_steps > num_steps:
        raise InputError(f"optimizer.warmup_steps={warmup_steps} is more than num_steps={num_steps}")
    decay_steps = max(num_steps - warmup_steps, 1)
    ends = [round(decay_steps * (3**i - 1) / (3**8 - 1)) for i in range(1, 8)]
    decays = {end: 10 ** (-ends.count(end) / 7) for end in ends}  # in a short run several stages end together
    schedules = {
        "constant": lambda: optax.constant_schedule(peak),
        "cosine": lambda: optax.cosine_decay_schedule(peak, decay_steps),
        "linear": lambda: optax.linear_schedule(peak, 0.0, decay_steps),
        "burda": lambda: optax.piecewise_constant_schedule(peak, decays),
    }
    if name not in schedules:
        raise InputError(f"unknown optimizer.schedule {name!r}; known: {', '.join(sorted(schedules))}")
    schedule = schedules[name]()
    if not warmup_steps:
        return schedule
    return optax.join_schedules([optax.linear_schedule(0.0, peak, warmup_steps), schedule], [warmup_steps])


def make_optimizer(
    name: str,
    learning_rate: float,
    num_steps: int,
    schedule: str = "constant",
    warmup_steps: int = 0,
    clip_norm: float = 0.0,
    b1: float = 0.9,
    b2: float = 0.999,
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    eps_root: float = 0.0,
) -> optax.GradientTransformation:
    """An optimizer with its schedule and, before it, clipping by the global norm.

    Args:
        name: "adam", "adamw", "nadam", "rmsprop" or "sgd" (b1 is then the momentum); for games "optimistic_adam" and
            "optimistic_sgd", which follow twice the gradient less the last one (Daskalakis et al. 2018).
        learning_rate: the peak of the schedule.
        num_steps: of the run.
        schedule, warmup_steps: see `learning_rate_schedule`.
        clip_norm: global norm above which gradients are scaled down; 0 for no clipping.
        b1, b2, eps: moment decay rates and the denominator's constant, as Adam names them.
        weight_decay: of adamw.
        eps_root: of the kinds of Adam, added under the square root, for steps that are themselves differentiated.

    Raises:
        InputError: on an unknown name.
    """
    rate = learning_rate_schedule(schedule, learning_rate, num_steps, warmup_steps)
    optimizers = {
        "adam": lambda: optax.adam(rate, b1=b1, b2=b2, eps=eps, eps_root=eps_root),
        "adamw": lambda: optax.adamw(rate, b1=b1, b2=b2, eps=eps, eps_root=eps_root, weight_decay=weight_decay),
        "nadam": lambda: optax.nadam(rate, b1=b1, b2=b2, eps=eps, eps_root=eps_root),
        "rmsprop": lambda: optax.rmsprop(rate, decay=b2, eps=eps),
        "sgd": lambda: optax.sgd(rate, momentum=b1 or None),
        "optimistic_adam": lambda: optax.optimistic_adam_v2(rate, b1=b1, b2=b2, eps=eps, eps_root=eps_root),
        "optimistic_sgd": lambda: optax.optimistic_gradient_descent(rate),
    }
    if name not in optimizers:
        raise InputError(f"unknown optimizer.name {name!r}; known: {', '.join(sorted(optimizers))}")
    if clip_norm:
        return optax.chain(optax.clip_by_global_norm(clip_norm), optimizers[name]())
    return optimizers[name]()
