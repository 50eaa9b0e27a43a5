#!/bin/sh
# Writes what Apache Kafka's own tool prints of these files: dump.sh <java class path> <main class>
set -e
cd "$(dirname "$0")"
tool() { java -cp "$classes" "$main" "$@"; }
list() { ls -d $1 | tr '\n' ',' | sed 's/,$//'; }
classes=$1 main=$2
files='transactions/payments-0/*.*index transactions/payments-0/*.snapshot'
logs='transactions/payments-0/*.log'
tool --files "$(list "$logs $files")" --print-data-log > dump/transactions.txt
tool --files "$(list "$logs")" > dump/shallow.txt
tool --files "$(list "$logs")" --print-data-log --skip-record-metadata > dump/values.txt
tool --files "$(list 'crashed/flights-0/*.log crashed/flights-0/*.*index crashed/flights-0/*.snapshot')" --deep-iteration > dump/crashed.txt
tool --files "$(list 'clean/*/*.*index')" --index-sanity-check > dump/sanity.txt
tool --files "$(list 'transactions/__consumer_offsets-0/*.log')" --offsets-decoder > dump/offsets.txt
tool --files "$(list 'transactions/__transaction_state-0/*.log')" --transaction-log-decoder > dump/transaction-state.txt
