{{/* Labels of everything this chart makes. */}}
{{- define "forebay.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
app.kubernetes.io/part-of: forebay
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* An image by its name in .Values.images: call with (list . "lens"). */}}
{{- define "forebay.image" -}}
{{- $root := index . 0 -}}
{{- $image := index $root.Values.images (index . 1) -}}
{{- with $root.Values.images.registry }}{{ . }}/{{ end }}{{ $image.name }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ $image.tag | default $root.Chart.AppVersion }}{{ end }}
{{- end }}

{{- define "forebay.pullSecrets" -}}
{{- with .Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Namespace of a workspace: call with (list . "name"). Namespaces have no underscores. */}}
{{- define "forebay.namespace" -}}
{{ (index . 0).Values.workspaceDefaults.namespacePrefix }}{{ index . 1 | replace "_" "-" }}
{{- end }}

{{/* A workspace's settings over the defaults, as JSON: call with (list . settings). */}}
{{- define "forebay.workspace" -}}
{{- mergeOverwrite (deepCopy (omit (index . 0).Values.workspaceDefaults "namespacePrefix")) (index . 1 | default dict) | toJson -}}
{{- end }}

{{- define "forebay.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "forebay.dns" -}}
- to:
    - namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: kube-system}}
  ports:
    - {port: 53, protocol: UDP}
    - {port: 53, protocol: TCP}
{{- end }}

{{/* A catalog of what is published, as Trino's properties. */}}
{{- define "forebay.trinoCatalog" -}}
connector.name=iceberg
iceberg.catalog.type=rest
iceberg.rest-catalog.uri=http://forebay-lens.{{ .Release.Namespace }}:8182/published
iceberg.rest-catalog.warehouse={{ .Values.lake.warehouse }}
{{- if .Values.lake.tokenUrl }}
iceberg.rest-catalog.security=OAUTH2
iceberg.rest-catalog.oauth2.credential=${ENV:LAKE_CATALOG_CREDENTIAL}
iceberg.rest-catalog.oauth2.server-uri={{ .Values.lake.tokenUrl }}
{{- end }}
iceberg.rest-catalog.vended-credentials-enabled=false
fs.native-s3.enabled=true
s3.endpoint={{ tpl .Values.lake.s3.endpoint . }}
s3.region={{ .Values.lake.s3.region }}
s3.path-style-access={{ .Values.lake.s3.pathStyle }}
s3.aws-access-key=${ENV:LAKE_ACCESS_KEY}
s3.aws-secret-key=${ENV:LAKE_SECRET_KEY}
{{- end }}
