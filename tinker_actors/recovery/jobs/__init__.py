"""Jobs: training runs by name that go on in another process where one ends."""

from tinker_actors.recovery.jobs.budget import Budget
from tinker_actors.recovery.jobs.folder import JobFolder, find_job, jobs_folder, list_jobs
from tinker_actors.recovery.jobs.job import Capture, Job
from tinker_actors.recovery.jobs.opening import JobBlock, JobHome, JobOptions
from tinker_actors.recovery.jobs.record import JobConfig, ResumePoint, ResumeRecord

__all__ = [
    "Budget",
    "Capture",
    "find_job",
    "Job",
    "JobBlock",
    "JobConfig",
    "JobFolder",
    "JobHome",
    "JobOptions",
    "jobs_folder",
    "list_jobs",
    "ResumePoint",
    "ResumeRecord",
]
