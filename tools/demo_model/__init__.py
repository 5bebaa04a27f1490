"""The recipe of the bundled model: pictures of the simulated line, training, export, evaluation. See README.md."""
