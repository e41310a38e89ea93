variable "name" {
  description = "Prefix of the names of all resources."
  type        = string
  default     = "mnist-nightly"
  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{2,19}$", var.name))
    error_message = "Must be 3 to 20 lower-case letters, digits and hyphens, beginning with a letter."
  }
}

variable "region" {
  description = "AWS region that has GPU machines."
  type        = string
  default     = "us-east-1"
  validation {
    condition     = can(regex("^[a-z]{2}(-[a-z]+)+-[0-9]$", var.region))
    error_message = "Must be the name of a region, such as eu-central-1."
  }
}

variable "endpoint" {
  description = "Address of a server that stands in for AWS, for checks against moto; null: AWS."
  type        = string
  default     = null
  validation {
    condition     = var.endpoint == null || can(regex("^http://(127\\.0\\.0\\.1|localhost)(:[0-9]+)?$", var.endpoint))
    error_message = "Must be an http address on loopback."
  }
}

variable "image_tag" {
  description = "Tag of both images in the registry; `make deploy` passes the commit."
  type        = string
  default     = "none"
  validation {
    condition     = can(regex("^[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}$", var.image_tag)) && var.image_tag != "latest"
    error_message = "Must be an image tag other than `latest`, because tags are immutable."
  }
}

variable "prefect_cloud_api_url" {
  description = "PREFECT_API_URL of Prefect Cloud; null: a server and PostgreSQL run in the cluster."
  type        = string
  default     = null
  validation {
    condition = (var.prefect_cloud_api_url == null ||
    can(regex("^https://api\\.prefect\\.cloud/api/accounts/[0-9a-f-]{36}/workspaces/[0-9a-f-]{36}$", var.prefect_cloud_api_url)))
    error_message = "Must be as `prefect config view` shows it: https://api.prefect.cloud/api/accounts/…/workspaces/…"
  }
}

variable "postgres_image" {
  description = "Image of the database of Prefect's server; with `@sha256:…` it does not change, and gets no security fixes."
  type        = string
  default     = "public.ecr.aws/docker/library/postgres:17-bookworm"
}

variable "database_path" {
  description = "Folder on EFS with PostgreSQL's data: another one begins an empty history, or one from a backup (README)."
  type        = string
  default     = "/postgres"
  validation {
    condition     = can(regex("^(/[A-Za-z0-9._-]+){1,4}$", var.database_path))
    error_message = "Must be an absolute path of one to four folders, such as /postgres-2."
  }
}

variable "gpu_instance_types" {
  description = "Machines with one NVIDIA GPU of compute capability 7.5 or newer, cheapest first; more types find more spot capacity."
  type        = list(string)
  default     = ["g4dn.xlarge", "g6.xlarge", "g5.xlarge"]
  validation {
    condition     = length(var.gpu_instance_types) > 0 && alltrue([for kind in var.gpu_instance_types : can(regex("^[gp][0-9][a-z0-9]*\\.[0-9]*x?large$", kind))])
    error_message = "Must be EC2 instance types of the families g and p."
  }
}

variable "gpu_machines_max" {
  description = "Highest number of GPU machines at a time, of spot and of on-demand each."
  type        = number
  default     = 1
  validation {
    condition     = var.gpu_machines_max >= 1 && var.gpu_machines_max <= 4 && floor(var.gpu_machines_max) == var.gpu_machines_max
    error_message = "Must be 1 to 4."
  }
}

variable "gpu_hours_max" {
  description = "Hours after which a GPU run is killed; its machine powers off one hour later."
  type        = number
  default     = 3
  validation {
    condition     = var.gpu_hours_max >= 3 && var.gpu_hours_max <= 12 && floor(var.gpu_hours_max) == var.gpu_hours_max
    error_message = "Must be 3 to 12: more than the 2 hours of MNIST_TRAIN_CAP_S, by which a training ends itself."
  }
}

variable "dask_workers" {
  description = "Dask workers of one core for `predict --engine dask`, on spot capacity, with a scheduler; 0: neither. They cost money until it is 0 again."
  type        = number
  default     = 0
  validation {
    condition     = var.dask_workers >= 0 && var.dask_workers <= 200 && floor(var.dask_workers) == var.dask_workers
    error_message = "Must be 0 to 200."
  }
}

variable "log_days" {
  description = "Days for which logs are kept."
  type        = number
  default     = 30
  validation {
    condition     = contains([1, 3, 5, 7, 14, 30, 60, 90, 120, 180, 365], var.log_days)
    error_message = "Must be one of 1, 3, 5, 7, 14, 30, 60, 90, 120, 180, 365."
  }
}

variable "budget_usd" {
  description = "Monthly budget in dollars; an email is sent at 80 % spent and when the forecast exceeds 100 %."
  type        = number
  default     = 60
  validation {
    condition     = var.budget_usd >= 1
    error_message = "Must be at least 1."
  }
}

variable "budget_email" {
  description = "Address that the budget's emails go to."
  type        = string
  validation {
    condition     = can(regex("^[^@ ]+@[^@ ]+\\.[^@ ]+$", var.budget_email))
    error_message = "Must be an email address."
  }
}

variable "github_repository" {
  description = "owner/name of the GitHub repository whose tags deploy, by OIDC; null: none."
  type        = string
  default     = null
  validation {
    condition     = var.github_repository == null || can(regex("^[A-Za-z0-9-]+/[A-Za-z0-9._-]+$", var.github_repository))
    error_message = "Must be owner/name."
  }
}

variable "destroy_data" {
  description = "Whether `terraform destroy` may delete the bucket and the images with their content."
  type        = bool
  default     = false
}

variable "state_bucket" {
  description = "Bucket of Terraform's own state, needed if tags deploy; null: the state is on this disk."
  type        = string
  default     = null
  validation {
    condition     = var.state_bucket == null || can(regex("^[a-z0-9.-]{3,63}$", var.state_bucket))
    error_message = "Must be the name of a bucket."
  }
}
