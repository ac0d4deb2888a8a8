#!/bin/sh
# What a change against a branch (main, if none is named) would be told in a review: one line each.
#
#     examples/review/findings.sh [BASE] [OPTIONS OF mm1 review]
set -eu
base=${1:-main}
[ $# -eq 0 ] || shift
git diff "$base" | mm1 review - --json --quiet "$@" |
    jq -r '.findings[] | "\(.path):\(.first_line): \(.severity): \(.title)"'
