"""AdamW in helixml."""

import helixml as hx


def adamw(values, gradients):
    parameters = [hx.nn.Parameter(value) for value in values]
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = hx.tensor(gradient)
    optimizer = hx.optim.AdamW(parameters, lr=1e-2, weight_decay=0.1)

    def run():
        optimizer.step()
        return parameters

    run()  # the first step makes the state
    return run, None
