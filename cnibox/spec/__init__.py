"""The CNI specification (https://www.cni.dev/docs/spec/) as data. No I/O, no Linux."""
