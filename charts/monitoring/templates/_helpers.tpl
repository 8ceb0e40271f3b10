{{/* As kube-prometheus-stack names things, so that nobody cares which of the two charts is installed. */}}
{{- define "monitoring.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 26 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default "kube-prometheus-stack" .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 26 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 26 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The subcharts of kube-prometheus-stack are named after the release. */}}
{{- define "monitoring.subname" -}}
{{- if contains .name .root.Release.Name -}}
{{- .root.Release.Name | trunc 63 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .root.Release.Name .name | trunc 63 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "monitoring.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name (.Chart.Version | replace "+" "_") }}
{{ include "monitoring.podLabels" . }}
{{- end -}}

{{/* Without the chart's version: another one is no reason to start pods anew. */}}
{{- define "monitoring.podLabels" -}}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/part-of: kube-prometheus-stack
release: {{ .Release.Name | quote }}
heritage: {{ .Release.Service | quote }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* registry/repository@digest, or :tag where there is no digest; global.imageRegistry takes the registry's place. */}}
{{- define "monitoring.image" -}}
{{- $registry := default .image.registry .root.Values.global.imageRegistry -}}
{{- $name := printf "%s/%s" $registry .image.repository | trimPrefix "/" -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $name .image.digest -}}
{{- else -}}
{{- required (printf "%s.tag or %s.digest must be set" .path .path) .image.tag | printf "%s:%s" $name -}}
{{- end -}}
{{- end -}}

{{- define "monitoring.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "monitoring.podSecurityContext" -}}
runAsNonRoot: true
runAsUser: 65534
runAsGroup: 65534
fsGroup: 65534
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{/* A selector for monitors and rules: those of the release, unless all are wanted or the person says otherwise. */}}
{{- define "monitoring.selector" -}}
{{- if .selector -}}
{{ toYaml .selector }}
{{- else if .own -}}
matchLabels:
  release: {{ .root.Release.Name | quote }}
{{- else -}}
{}
{{- end -}}
{{- end -}}

{{/* Where the API reaches a component from the outside. */}}
{{- define "monitoring.externalUrl" -}}
{{- if .given -}}
{{ .given }}
{{- else if and .ingress.enabled .ingress.hosts -}}
{{ ternary "https" "http" (not (empty .ingress.tls)) }}://{{ first .ingress.hosts }}{{ first (default (list "/") .ingress.paths) }}
{{- else -}}
http://{{ .service }}.{{ .root.Release.Namespace }}:{{ .port }}
{{- end -}}
{{- end -}}

{{- define "monitoring.ingress" -}}
{{- if .ingress.enabled }}
---
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: {{ .service }}
  namespace: {{ .root.Release.Namespace }}
  labels:
    app: {{ .app }}
    {{- include "monitoring.labels" .root | nindent 4 }}
  {{- with .ingress.annotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  {{- with .ingress.ingressClassName }}
  ingressClassName: {{ . }}
  {{- end }}
  {{- with .ingress.tls }}
  tls:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  rules:
    {{- $all := . }}
    {{- range .ingress.hosts }}
    - host: {{ . | quote }}
      http:
        paths:
          {{- range default (list "/") $all.ingress.paths }}
          - path: {{ . }}
            pathType: {{ default "Prefix" $all.ingress.pathType }}
            backend:
              service:
                name: {{ $all.service }}
                port:
                  number: {{ $all.port }}
          {{- end }}
    {{- end }}
{{- end }}
{{- end -}}
