# Prefect. With Prefect Cloud (prefect_cloud_api_url) only workers. Otherwise also a server with PostgreSQL, which is
# reachable from inside the network only; browsers connect through an SSM port-forward.

locals {
  own_server      = var.prefect_cloud_api_url == null ? 1 : 0
  prefect_api_url = coalesce(var.prefect_cloud_api_url, "http://prefect.${var.name}.internal:4200/api")
  predict_image   = "${aws_ecr_repository.image["predict"].repository_url}:${var.image_tag}"

  ui_url = "http://127.0.0.1:4200/v2" # as seen through the port-forward

  quiet = { PREFECT_SERVER_ANALYTICS_ENABLED = "false", DO_NOT_TRACK = "1" }
  worker_environment = merge(local.quiet, {
    PREFECT_API_URL                                        = local.prefect_api_url
    AWS_DEFAULT_REGION                                     = var.region # boto3 does not read the AWS_REGION that ECS sets
    PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_NAME   = aws_sqs_queue.tasks.name
    PREFECT_INTEGRATIONS_AWS_ECS_OBSERVER_SQS_QUEUE_REGION = var.region
  }, { for name in ["PREFECT_UI_URL"] : name => local.ui_url if local.own_server == 1 }) # runs write it into their logs
  # From PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE on as in flows/ops/server_settings.py, which has the reasons.
  server_environment = merge(local.quiet, {
    PREFECT_SERVER_DATABASE_CONNECTION_URL     = "postgresql+asyncpg://postgres@localhost:5432/postgres"
    PREFECT_SERVER_UI_API_URL                  = "http://localhost:4200/api" # as seen through the port-forward
    PREFECT_SERVER_UI_SHOW_PROMOTIONAL_CONTENT = "false"
    PREFECT_UI_URL                             = local.ui_url
    PREFECT_HOME                               = "/prefect" # on EFS: leases must survive a restart

    PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE           = "prefect.server.concurrency.lease_storage.filesystem"
    PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED          = "events,flow_runs"
    PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD = "7776000"
    PREFECT_SERVER_CSRF_PROTECTION_ENABLED             = "true"
    PREFECT_SERVER_CORS_ALLOWED_ORIGINS                = "http://127.0.0.1:4200,http://localhost:4200"
  })
  service_log = { for name in ["worker", "server", "postgres"] : name => {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.this["service"].name
      awslogs-region        = var.region
      awslogs-stream-prefix = name
    }
  } }
}

resource "aws_ecs_task_definition" "worker" {
  family                   = "${var.name}-worker"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution["service"].arn
  task_role_arn            = aws_iam_role.worker.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64" # that of the images (infra/deploy.sh)
  }

  volume {
    name = "tmp"
  }

  # A worker serves one pool; both workers fit into one small task. They do not create pools: a pool made by a worker
  # has no concurrency limit. They wait until infra/deploy.sh has made them.
  container_definitions = jsonencode([for pool in ["cpu", "gpu"] : {
    name  = "worker-${pool}"
    image = local.predict_image
    command = ["prefect", "worker", "start", "--type", "ecs", "--pool", pool, "--install-policy", "never",
    "--no-create-pool-if-not-found"]
    environment = [for name, value in local.worker_environment : { name = name, value = value }]
    secrets = concat(
      [for arn in aws_secretsmanager_secret.prefect[*].arn : { name = "PREFECT_API_KEY", valueFrom = arn }],
      [for arn in aws_secretsmanager_secret.login[*].arn : { name = "PREFECT_API_AUTH_STRING", valueFrom = arn }],
    )
    essential              = true
    readonlyRootFilesystem = true
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    linuxParameters        = { initProcessEnabled = true }
    logConfiguration       = local.service_log.worker
  }])
}

resource "aws_ecs_service" "worker" {
  name            = "worker"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.worker.arn
  desired_count   = 1
  launch_type     = "FARGATE"

  network_configuration {
    subnets          = aws_subnet.public[*].id
    security_groups  = [aws_security_group.job.id]
    assign_public_ip = true
  }

}

# From here on: the server in the cluster.

resource "aws_security_group" "server" {
  count       = local.own_server
  name        = "${var.name}-server"
  description = "Prefect's server: its API for workers and jobs"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "server" {
  count                        = local.own_server
  security_group_id            = aws_security_group.server[0].id
  description                  = "Prefect's API"
  ip_protocol                  = "tcp"
  from_port                    = 4200
  to_port                      = 4200
  referenced_security_group_id = aws_security_group.job.id
}

resource "aws_vpc_security_group_egress_rule" "server" {
  count             = local.own_server
  security_group_id = aws_security_group.server[0].id
  description       = "Images, logs, SSM, the database's disk"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_security_group" "disk" {
  count       = local.own_server
  name        = "${var.name}-disk"
  description = "The database's disk: NFS for the server's task"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "disk" {
  count                        = local.own_server
  security_group_id            = aws_security_group.disk[0].id
  description                  = "NFS"
  ip_protocol                  = "tcp"
  from_port                    = 2049
  to_port                      = 2049
  referenced_security_group_id = aws_security_group.server[0].id
}

resource "aws_efs_file_system" "database" {
  count     = local.own_server
  encrypted = true
  tags      = { Name = "${var.name}-database" }
}

resource "aws_efs_backup_policy" "database" {
  count          = local.own_server
  file_system_id = aws_efs_file_system.database[0].id
  backup_policy {
    status = "ENABLED"
  }
}

resource "aws_efs_mount_target" "database" {
  count           = local.own_server * length(aws_subnet.public)
  file_system_id  = aws_efs_file_system.database[0].id
  subnet_id       = aws_subnet.public[count.index].id
  security_groups = [aws_security_group.disk[0].id]
}

# 999 is the user of the PostgreSQL image.
resource "aws_efs_access_point" "database" {
  count          = local.own_server
  file_system_id = aws_efs_file_system.database[0].id
  posix_user {
    uid = 999
    gid = 999
  }
  root_directory {
    path = var.database_path
    creation_info {
      owner_uid   = 999
      owner_gid   = 999
      permissions = "0700"
    }
  }
}

# 10001 is the user of our image.
resource "aws_efs_access_point" "leases" {
  count          = local.own_server
  file_system_id = aws_efs_file_system.database[0].id
  posix_user {
    uid = 10001
    gid = 10001
  }
  root_directory {
    path = "/prefect"
    creation_info {
      owner_uid   = 10001
      owner_gid   = 10001
      permissions = "0700"
    }
  }
}

resource "aws_iam_role" "server" {
  count              = local.own_server
  name               = "${var.name}-server"
  assume_role_policy = data.aws_iam_policy_document.by_tasks.json
}

resource "aws_iam_role_policy" "server" {
  count = local.own_server
  name  = "port-forward"
  role  = aws_iam_role.server[0].id
  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      # The channels of an SSM session (the port-forward to the UI); they support no resource-level permission.
      Effect = "Allow"
      Action = [
        "ssmmessages:CreateControlChannel",
        "ssmmessages:CreateDataChannel",
        "ssmmessages:OpenControlChannel",
        "ssmmessages:OpenDataChannel",
      ]
      Resource = "*"
      }, {
      # The disk, only through its access points.
      Effect   = "Allow"
      Action   = ["elasticfilesystem:ClientMount", "elasticfilesystem:ClientWrite"]
      Resource = aws_efs_file_system.database[0].arn
      Condition = {
        StringEquals = {
          "elasticfilesystem:AccessPointArn" = [aws_efs_access_point.database[0].arn, aws_efs_access_point.leases[0].arn]
        }
      }
    }]
  })
}

resource "aws_service_discovery_private_dns_namespace" "this" {
  count = max(local.own_server, local.dask)
  name  = "${var.name}.internal"
  vpc   = aws_vpc.this.id
}

resource "aws_service_discovery_service" "server" {
  count = local.own_server
  name  = "prefect"
  dns_config {
    namespace_id = aws_service_discovery_private_dns_namespace.this[0].id
    dns_records {
      type = "A"
      ttl  = 15
    }
  }
}

# Server and database share the loopback of one task: PostgreSQL listens nowhere else and needs no password.
resource "aws_ecs_task_definition" "server" {
  count                    = local.own_server
  family                   = "${var.name}-server"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 512
  memory                   = 2048
  execution_role_arn       = aws_iam_role.execution["service"].arn
  task_role_arn            = aws_iam_role.server[0].arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64" # that of the images (infra/deploy.sh)
  }

  dynamic "volume" {
    for_each = { database = aws_efs_access_point.database[0].id, leases = aws_efs_access_point.leases[0].id }
    content {
      name = volume.key
      efs_volume_configuration {
        file_system_id     = aws_efs_file_system.database[0].id
        transit_encryption = "ENABLED"
        authorization_config {
          access_point_id = volume.value
          iam             = "ENABLED"
        }
      }
    }
  }

  container_definitions = jsonencode([
    {
      name        = "postgres"
      image       = var.postgres_image
      user        = "999:999"
      command     = ["postgres", "-c", "listen_addresses=localhost"]
      environment = [{ name = "POSTGRES_HOST_AUTH_METHOD", value = "trust" }, { name = "PGDATA", value = "/data/17" }]
      mountPoints = [{ sourceVolume = "database", containerPath = "/data", readOnly = false }]
      essential   = true
      stopTimeout = 60 # time for a checkpoint
      healthCheck = {
        command     = ["CMD-SHELL", "pg_isready --username postgres --host localhost"]
        interval    = 10
        timeout     = 5
        retries     = 5
        startPeriod = 60
      }
      logConfiguration = local.service_log.postgres
    },
    {
      # No read-only root here: the SSM agent that carries the port-forward writes to it.
      name            = "server"
      image           = local.predict_image
      command         = ["prefect", "server", "start", "--host", "0.0.0.0", "--port", "4200"]
      environment     = [for name, value in local.server_environment : { name = name, value = value }]
      secrets         = [{ name = "PREFECT_SERVER_API_AUTH_STRING", valueFrom = aws_secretsmanager_secret.login[0].arn }]
      mountPoints     = [{ sourceVolume = "leases", containerPath = "/prefect", readOnly = false }]
      portMappings    = [{ containerPort = 4200, hostPort = 4200, protocol = "tcp" }]
      dependsOn       = [{ containerName = "postgres", condition = "HEALTHY" }]
      essential       = true
      linuxParameters = { initProcessEnabled = true }
      healthCheck = {
        command = ["CMD", "python", "-c",
        "import urllib.request as r; r.urlopen('http://localhost:4200/api/health', timeout=4)"]
        interval    = 30
        timeout     = 5
        retries     = 4
        startPeriod = 120
      }
      logConfiguration = local.service_log.server
    },
  ])
}

resource "aws_ecs_service" "server" {
  count                  = local.own_server
  name                   = "server"
  cluster                = aws_ecs_cluster.this.id
  task_definition        = aws_ecs_task_definition.server[0].arn
  desired_count          = 1
  launch_type            = "FARGATE"
  enable_execute_command = true # adds the SSM agent, for the port-forward

  # The old task ends before the new one starts: two PostgreSQL servers must never write to one disk. This orders
  # deployments; for a lost host see infra/README.md, "If the history is damaged".
  deployment_maximum_percent         = 100
  deployment_minimum_healthy_percent = 0

  network_configuration {
    subnets          = aws_subnet.public[*].id
    security_groups  = [aws_security_group.server[0].id]
    assign_public_ip = true
  }

  service_registries {
    registry_arn = aws_service_discovery_service.server[0].arn
  }

  depends_on = [aws_efs_mount_target.database]
}
