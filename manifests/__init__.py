"""Parquet tables of what to render and what happened; Kubernetes manifests are in k8s/.

Owns pyarrow and fsspec: the manifest's schema and checks, the artefact store and its markers. It does
not render and imports nothing of ours.
"""
