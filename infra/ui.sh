#!/bin/sh
# Forward the UI and API of the cluster's Prefect server to http://localhost:4200, through SSM, until Ctrl-C.
# Needs the AWS CLI with its session-manager-plugin. The UI shows runs on port 4200 only: the server allows no other page.
#
#   infra/ui.sh [CLUSTER [PORT]]
set -eu
cluster=${1:-mnist-nightly}
port=${2:-4200}
task=$(aws ecs list-tasks --cluster "$cluster" --service-name server --query 'taskArns[0]' --output text)
if [ "$task" = None ]; then
    echo "ui: the service \`server\` of $cluster has no task; see its events in ECS" >&2
    exit 1
fi
runtime=$(aws ecs describe-tasks --cluster "$cluster" --tasks "$task" --output text \
    --query "tasks[0].containers[?name=='server'].runtimeId | [0]")
echo "ui: log in with: aws secretsmanager get-secret-value --secret-id ${cluster##*/}/prefect-login --query SecretString --output text" >&2
exec aws ssm start-session --target "ecs:${cluster##*/}_${task##*/}_${runtime}" \
    --document-name AWS-StartPortForwardingSession --parameters portNumber=4200,localPortNumber="$port"
