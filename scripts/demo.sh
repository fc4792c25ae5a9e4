#!/usr/bin/env bash
# The whole path with no credential: the image, a strict stand-in for the model beside it, an A2A message, the streamed answer.
set -euo pipefail
cd "$(dirname "$0")/.."

readonly image=${CODEX_WORKSPACE_IMAGE:-codex-workspace:latest}
demo=codex-workspace-demo-$(od -An -N5 -tx1 /dev/urandom | tr -d ' \n')
readonly demo
configs=$(mktemp -d)
cleanup() {
  docker rm --force --volumes "$demo" "$demo-model" >/dev/null 2>&1
  rm -rf "$configs"
}
trap cleanup EXIT

cat >"$configs/config.yaml" <<'EOF'
name: Demo
runtime_config: {provider: standin}
providers:
  - name: standin
    auth_mode: openai_compat_responses
    base_url: http://127.0.0.1:9000/v1
    auth_env: [STANDIN_KEY]
EOF

echo "-- the stand-in for the model, on loopback"
docker create --name "$demo-model" --env PYTHONPATH=/demo --env RESPONSES_API_KEY=demo --entrypoint python3 "$image" \
  -m support.responses_server --port 9000 >/dev/null
mkdir "$configs/demo"
cp -r tests/support "$configs/demo/"
docker cp "$configs/demo" "$demo-model:/"
docker start "$demo-model" >/dev/null

echo "-- the workspace, $image"
docker create --name "$demo" --network "container:$demo-model" --env WORKSPACE_ID=demo --env PLATFORM_URL=off \
  --env STANDIN_KEY=demo "$image" >/dev/null
mkdir -p "$configs/configs"
mv "$configs/config.yaml" "$configs/configs/"
docker cp "$configs/configs" "$demo:/"
docker start "$demo" >/dev/null
for _ in $(seq 100); do
  if docker exec "$demo" curl --silent --fail --output /dev/null http://127.0.0.1:8000/readyz; then
    break
  fi
  sleep 0.2
done

echo "-- an A2A message, and its answer as it comes"
docker exec "$demo" curl --silent --show-error --fail --no-buffer http://127.0.0.1:8000/ --header 'Content-Type: application/json' --data '{
  "jsonrpc": "2.0", "id": 1, "method": "message/stream",
  "params": {"message": {"role": "user", "messageId": "demo-1", "parts": [{"kind": "text", "text": "Hello from A2A, word by word"}]}}}'

echo "-- what the workspace said while it booted"
docker logs "$demo" 2>&1 | head -n 20
