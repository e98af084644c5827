"""A stand-in for AWS: `moto`'s EC2 behind HTTP, with what moto leaves out, and with the troubles of a real cloud."""
