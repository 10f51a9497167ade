"""Between messages and values: decoders, quality of service, parameters, processes of nodes."""
