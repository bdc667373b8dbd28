# SPDX-License-Identifier: GPL-2.0
"""The structs that C and Python share: each declared once, here, and checked against bpf/ by the compiler.

`base` derives from a declaration what else describes it: a `struct.Struct` to read and write with, and places in what
that unpacks; `arrays` derives numpy dtypes; dataplane/build/assertions.py what is compiled with every program.
"""
