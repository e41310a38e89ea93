output "pool" {
  description = "Values for the base job templates; input of `python -m infra.pools`."
  value = {
    cluster            = aws_ecs_cluster.this.arn
    region             = var.region
    name               = var.name
    predict_image      = local.predict_image
    train_image        = "${aws_ecr_repository.image["train"].repository_url}:${var.image_tag}"
    job_role           = aws_iam_role.job.arn
    execution_role     = aws_iam_role.execution["job"].arn
    kaggle_secret      = aws_secretsmanager_secret.kaggle.arn
    prefect_secret     = one(aws_secretsmanager_secret.prefect[*].arn)
    prefect_login      = one(aws_secretsmanager_secret.login[*].arn)
    prefect_api_url    = local.prefect_api_url
    log_group          = aws_cloudwatch_log_group.this["job"].name
    store              = "s3://${aws_s3_bucket.store.id}/store"
    subnets            = aws_subnet.public[*].id
    security_group     = aws_security_group.job.id
    spot_provider      = aws_ecs_capacity_provider.gpu["spot"].name
    on_demand_provider = aws_ecs_capacity_provider.gpu["on-demand"].name
    gpu_seconds_max    = var.gpu_hours_max * 3600
  }
}

output "store" {
  description = "MNIST_STORE, to read the store from another machine."
  value       = "s3://${aws_s3_bucket.store.id}/store"
}

output "dask_scheduler" {
  description = "MNIST_SCHEDULER of runs that predict by Dask; null without dask_workers."
  value       = local.dask == 1 ? local.dask_scheduler : null
}

output "repositories" {
  description = "Registry addresses of the two images."
  value       = { for name, repository in aws_ecr_repository.image : name => repository.repository_url }
}

output "login" {
  description = "Secret with the login of Prefect's server; null with Prefect Cloud."
  value       = one(aws_secretsmanager_secret.login[*].arn)
}

output "deploy_role" {
  description = "Role with which the repository's tags deploy (AWS_DEPLOY_ROLE of the workflow)."
  value       = one(aws_iam_role.deploy[*].arn)
}
