# Copyright: the Appgate platform authors
# SPDX-License-Identifier: Apache-2.0
