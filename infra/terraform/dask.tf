# Dask for predictions in shards (docs/scale.md), off unless dask_workers is set: a scheduler, and workers on spot
# capacity, one core each. What a reclaimed worker was at, another one does. Whoever reaches the scheduler can run
# programs on the workers, so only jobs and workers do.

locals {
  dask           = var.dask_workers > 0 ? 1 : 0
  dask_scheduler = "tcp://dask.${var.name}.internal:8786"
  dask_log = {
    logDriver = "awslogs"
    options = {
      awslogs-group         = aws_cloudwatch_log_group.this["service"].name
      awslogs-region        = var.region
      awslogs-stream-prefix = "dask"
    }
  }
}

resource "aws_security_group" "dask" {
  count       = local.dask
  name        = "${var.name}-dask"
  description = "Dask: its scheduler for jobs and workers, and its workers for the scheduler"
  vpc_id      = aws_vpc.this.id
}

resource "aws_vpc_security_group_ingress_rule" "dask_jobs" {
  count                        = local.dask
  security_group_id            = aws_security_group.dask[0].id
  description                  = "The scheduler, for the run that predicts"
  ip_protocol                  = "tcp"
  from_port                    = 8786
  to_port                      = 8786
  referenced_security_group_id = aws_security_group.job.id
}

resource "aws_vpc_security_group_ingress_rule" "dask_itself" {
  count                        = local.dask
  security_group_id            = aws_security_group.dask[0].id
  description                  = "Scheduler and workers; a worker's port is any"
  ip_protocol                  = "tcp"
  from_port                    = 1024
  to_port                      = 65535
  referenced_security_group_id = aws_security_group.dask[0].id
}

resource "aws_vpc_security_group_egress_rule" "dask" {
  count             = local.dask
  security_group_id = aws_security_group.dask[0].id
  description       = "S3, the image registry, logs, each other"
  ip_protocol       = "-1"
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_service_discovery_service" "dask" {
  count = local.dask
  name  = "dask"
  dns_config {
    namespace_id = aws_service_discovery_private_dns_namespace.this[0].id
    dns_records {
      type = "A"
      ttl  = 15
    }
  }
}

# The scheduler needs no rights: a task is an address and a number.
resource "aws_ecs_task_definition" "dask_scheduler" {
  count                    = local.dask
  family                   = "${var.name}-dask-scheduler"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 256
  memory                   = 1024
  execution_role_arn       = aws_iam_role.execution["service"].arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64" # that of the images (infra/deploy.sh)
  }

  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([{
    name                   = "scheduler"
    image                  = local.predict_image
    command                = ["dask", "scheduler", "--port", "8786", "--no-dashboard", "--no-show"]
    portMappings           = [{ containerPort = 8786, hostPort = 8786, protocol = "tcp" }]
    essential              = true
    readonlyRootFilesystem = true
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    linuxParameters        = { initProcessEnabled = true }
    logConfiguration       = local.dask_log
  }])
}

# The workers read and write what jobs may: objects below `store/` of the bucket.
resource "aws_ecs_task_definition" "dask_worker" {
  count                    = local.dask
  family                   = "${var.name}-dask-worker"
  requires_compatibilities = ["FARGATE"]
  network_mode             = "awsvpc"
  cpu                      = 1024
  memory                   = 2048
  execution_role_arn       = aws_iam_role.execution["service"].arn
  task_role_arn            = aws_iam_role.job.arn

  runtime_platform {
    operating_system_family = "LINUX"
    cpu_architecture        = "X86_64" # that of the images (infra/deploy.sh)
  }

  volume {
    name = "tmp"
  }

  container_definitions = jsonencode([{
    name  = "worker"
    image = local.predict_image
    command = ["dask", "worker", local.dask_scheduler, "--nworkers", "1", "--nthreads", "1", "--no-dashboard",
    "--local-directory", "/tmp/dask"]
    environment = [for name, value in {
      AWS_DEFAULT_REGION = var.region # boto3 does not read the AWS_REGION that ECS sets
      MALLOC_ARENA_MAX   = "2"
      OMP_NUM_THREADS    = "1"
    } : { name = name, value = value }]
    essential              = true
    readonlyRootFilesystem = true
    mountPoints            = [{ sourceVolume = "tmp", containerPath = "/tmp", readOnly = false }]
    linuxParameters        = { initProcessEnabled = true }
    logConfiguration       = local.dask_log
  }])
}

resource "aws_ecs_service" "dask_scheduler" {
  count           = local.dask
  name            = "dask-scheduler"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.dask_scheduler[0].arn
  desired_count   = 1
  launch_type     = "FARGATE"

  # Two schedulers at one name would share the workers between them.
  deployment_maximum_percent         = 100
  deployment_minimum_healthy_percent = 0

  network_configuration {
    subnets          = aws_subnet.public[*].id
    security_groups  = [aws_security_group.dask[0].id]
    assign_public_ip = true
  }

  service_registries {
    registry_arn = aws_service_discovery_service.dask[0].arn
  }
}

resource "aws_ecs_service" "dask_worker" {
  count           = local.dask
  name            = "dask-worker"
  cluster         = aws_ecs_cluster.this.id
  task_definition = aws_ecs_task_definition.dask_worker[0].arn
  desired_count   = var.dask_workers

  capacity_provider_strategy {
    capacity_provider = "FARGATE_SPOT"
    weight            = 1
  }

  network_configuration {
    subnets          = aws_subnet.public[*].id
    security_groups  = [aws_security_group.dask[0].id]
    assign_public_ip = true
  }

  depends_on = [aws_ecs_cluster_capacity_providers.this]
}
