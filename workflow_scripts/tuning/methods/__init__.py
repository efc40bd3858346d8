"""The ways of tuning, one module each, all with the same names:

* `head(level, width, outputs, settings)`: the head, which is always trained
* `sentence_vector(settings)`: which vector stands for a text: "pooler", "first_token" or "mean"
* `check(encoder)`: raises UserError where the architecture cannot be tuned so; its weights are not read yet
* `prepare(model, settings, touched)`: add parameters to a model whose encoder is frozen, or free some of the encoder's
"""
