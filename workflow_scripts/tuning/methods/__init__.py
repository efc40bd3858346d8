"""The tuning methods, one module each. Every module defines the same four functions, whose `settings` are
`TrainingSettings`:

* `head(level, width, outputs, settings)`: return the head, which is always trained
* `sentence_vector(settings)`: return which vector represents a text: "pooler", "first_token" or "mean"
* `check(encoder, settings)`: raise UserError if the method does not support the architecture or the settings; no
  weights are loaded yet
* `prepare(model, settings, touched)`: add parameters to a model whose encoder is frozen, or unfreeze some of them;
  `touched` are the vocabulary ids in the training data, (ids,), or None
"""
