#!/bin/sh
# -P: what lies in the current directory is nobody's module.
exec /usr/lib/xdpguard/bin/python -P -m xdpguard.cli "$@"
