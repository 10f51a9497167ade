"""The commands of `tacit calibrate`, one module each: arguments in, files and a short report out."""
