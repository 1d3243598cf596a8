#!/bin/sh
# Inspect images by curl: sh inspect.sh http://127.0.0.1:7860 chip.png ...
# With an API key: CHIPDEMO_KEY=chip_... sh inspect.sh ...
address=$1
shift
for path in "$@"; do
  curl --silent --show-error --fail-with-body --retry 5 \
    ${CHIPDEMO_KEY:+--header "Authorization: Bearer $CHIPDEMO_KEY"} \
    --header "Content-Type: application/octet-stream" \
    --data-binary "@$path" "$address/v1/inspect" || exit 1
  echo
done
