"""Optimizers' updates in NumPy: what each rule means. They change the arrays in place.

Every rule is `rule(p, g, <slots>, keep, lr, <constants>)`: parameters p, their gradients g, the
slots (arrays that the rule remembers; None where an option is off), all of one shape and dtype.
`keep` = 1 - weight decay * lr multiplies p first; `step` counts from 1. Constants are rounded to
p's dtype before anything is computed, as Keras does, so that runs agree to rounding.
"""

import numpy as np

_RISE = 0.96  # Nadam: how fast the momentum approaches beta_1 (Dozat, 2016)


def sgd(p, g, m, keep, lr, momentum, nesterov):
    """m = momentum m - lr g;  p += m, or with nesterov p += momentum m - lr g."""
    p *= keep
    if m is None:
        p -= lr * g
        return
    m[...] = momentum * m - lr * g
    p += momentum * m - lr * g if nesterov else m


def adam(p, g, m, v, v_hat, keep, lr, step, beta_1, beta_2, epsilon):
    """m, v: running means of g and g^2;  p -= alpha m / (sqrt(v) + epsilon).

    alpha = lr sqrt(1 - beta_2^step) / (1 - beta_1^step) corrects for the means' start at 0. With
    v_hat (AMSGrad) the largest v so far is taken. (Kingma and Ba, 2014; Reddi et al., 2018.)
    """
    real = p.dtype.type
    t = real(step)
    alpha = real(lr) * np.sqrt(1 - real(beta_2) ** t) / (1 - real(beta_1) ** t)
    p *= keep
    m += (g - m) * (1 - beta_1)
    v += (g * g - v) * (1 - beta_2)
    if v_hat is not None:
        np.maximum(v_hat, v, out=v_hat)
        v = v_hat
    p -= m * alpha / (np.sqrt(v) + epsilon)


def adamax(p, g, m, u, keep, lr, step, beta_1, beta_2, epsilon):
    """Adam with the largest |g|, slowly forgotten, in place of sqrt(v). (Kingma and Ba, 2014.)"""
    real = p.dtype.type
    alpha = real(lr) / (1 - real(beta_1) ** real(step))
    p *= keep
    m += (g - m) * (1 - beta_1)
    np.maximum(beta_2 * u, np.abs(g), out=u)
    p -= alpha * m / (u + epsilon)


def nadam(p, g, m, v, keep, lr, step, beta_1, beta_2, epsilon, u_product):
    """Adam with Nesterov's look ahead; `u_product` is that of the momenta so far. (Dozat, 2016.)"""
    real = p.dtype.type
    t, b1, rise, u_product = real(step), real(beta_1), real(_RISE), real(u_product)
    u = b1 * (1 - real(0.5) * rise**t)
    u_next = b1 * (1 - real(0.5) * rise ** (t + 1))
    p *= keep
    m += (g - m) * (1 - beta_1)
    v += (g * g - v) * (1 - beta_2)
    m_hat = m * (u_next / (1 - u_product * u_next)) + g * ((1 - u) / (1 - u_product))
    v_hat = v / (1 - real(beta_2) ** t)
    p -= lr * m_hat / (np.sqrt(v_hat) + epsilon)


def rmsprop(p, g, v, m, a, keep, lr, rho, momentum, epsilon):
    """v: running mean of g^2;  p -= lr g / sqrt(v + epsilon), through m if there is momentum.

    With a (centered), the running mean of g, its square is taken off v. (Hinton, 2012.)
    """
    p *= keep
    v[...] = rho * v + (1 - rho) * g * g
    denominator = v
    if a is not None:
        a[...] = rho * a + (1 - rho) * g
        denominator = v - a * a
    change = lr * g / np.sqrt(denominator + epsilon)
    if m is not None:
        m[...] = momentum * m + change
        change = m
    p -= change


def adagrad(p, g, a, keep, lr, epsilon):
    """a: sum of all g^2;  p -= lr g / sqrt(a + epsilon). (Duchi et al., 2011.)"""
    p *= keep
    a += g * g
    p -= lr * g / np.sqrt(a + epsilon)


def adadelta(p, g, a, d, keep, lr, rho, epsilon):
    """a, d: running means of g^2 and of the squared steps, whose units p has. (Zeiler, 2012.)"""
    p *= keep
    a[...] = rho * a + (1 - rho) * g * g
    change = np.sqrt(d + epsilon) * g / np.sqrt(a + epsilon)
    d[...] = rho * d + (1 - rho) * change * change
    p -= lr * change


def lion(p, g, m, keep, lr, beta_1, beta_2):
    """p -= lr sign(beta_1 m + (1 - beta_1) g);  m: running mean of g. (Chen et al., 2023.)"""
    p *= keep
    p -= lr * np.sign(beta_1 * m + (1 - beta_1) * g)
    m[...] = beta_2 * m + (1 - beta_2) * g


def ftrl(p, g, a, z, keep, lr, power, l1, l2, shrinkage, beta):
    """Follow the regularized leader: l1 makes p sparse. (McMahan et al., 2013.)

    a: sum of all g^2;  z: the linear part of the objective of which p is the minimum.
    """
    p *= keep
    grown = a + g * g
    sigma = (grown**-power - a**-power) / lr
    z += g + 2 * shrinkage * p - sigma * p
    curvature = grown**-power / lr + 2 * (l2 + beta / (2 * lr))
    p[...] = (np.clip(z, -l1, l1) - z) / curvature
    a[...] = grown


# --- what happens to gradients before the rule ----------------------------------------------------


def clip_norm(g, limit):
    """Scales g so that its Euclidean norm is at most `limit`."""
    norm = np.sqrt(np.vdot(g, g))
    if norm > limit:
        g *= limit / norm


def clip_global_norm(gradients, limit):
    """Scales the arrays so that the Euclidean norm of all of them together is at most `limit`."""
    norm = sum(float(np.vdot(g, g)) for g in gradients) ** 0.5
    if not norm <= limit:  # NaN stays to be seen
        for g in gradients:
            g *= limit / norm


def clip_value(g, limit):
    """Limits every element of g to [-limit, limit]."""
    np.clip(g, -limit, limit, out=g)


def moving_average(average, p, momentum):
    """average = momentum average + (1 - momentum) p."""
    average *= momentum
    average += (1 - momentum) * p
