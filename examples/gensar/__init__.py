"""The parts of the GenSAR example: data, identifiers, model, training, evaluation."""
