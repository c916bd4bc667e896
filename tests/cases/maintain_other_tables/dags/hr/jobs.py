"""Every YAML file in this folder is a job: an Airflow dag."""
from forebay.dag import load_dags

globals().update(load_dags(__file__))
