;;; Emacs without a window, with its client eglot: open, read, hover, apply the fix, save. Writes what it saw to $SEEN.  -*- lexical-binding: t -*-
(require 'eglot)
(require 'json)
(setq eglot-sync-connect 60 eglot-connect-timeout 60 make-backup-files nil)
(find-file "model.py")
(python-mode)
(eglot--connect '(python-mode) (cons 'transient default-directory) 'eglot-lsp-server (list (getenv "VAELINT") "server") "python")

(defun session-told (ready)
  "Wait until READY holds for the diagnostics; return them as line and text."
  (let ((turns 300) found)
    (while (and (> turns 0)
                (progn (flymake-start)
                       (setq found (mapcar (lambda (d) (list (line-number-at-pos (flymake-diagnostic-beg d)) (flymake-diagnostic-text d)))
                                           (flymake-diagnostics)))
                       (not (funcall ready found))))
      (accept-process-output nil 0.2)
      (setq turns (1- turns)))
    found))

(defun session-ask (method &rest more)
  "Ask the server for METHOD at point."
  (jsonrpc-request (eglot--current-server-or-lose) method
                   (append (list :textDocument (eglot--TextDocumentIdentifier)) more)))

(let* ((before (session-told (lambda (found) found)))
       (here (lambda () (eglot--pos-to-lsp-position)))
       hover actions line after)
  (goto-char (point-min))
  (forward-line (1- (caar before)))
  (search-forward "torch.")
  (setq hover (plist-get (plist-get (session-ask :textDocument/hover :position (funcall here)) :contents) :value))
  (let ((turns 200))  ; a fix comes once it has been verified
    (while (and (> turns 0)
                (progn (setq actions (session-ask :textDocument/codeAction
                                                  :range (list :start (funcall here) :end (funcall here)) :context (list :diagnostics [])))
                       (not (string-prefix-p "Fix" (plist-get (aref actions 0) :title)))))
      (accept-process-output nil 0.2)
      (setq turns (1- turns))))
  (eglot--apply-workspace-edit (plist-get (aref actions 0) :edit))
  (setq line (buffer-substring (line-beginning-position) (line-end-position)))
  (save-buffer)
  (setq after (session-told #'null))
  (with-temp-file (getenv "SEEN")
    (insert (json-encode (list :before (vconcat (mapcar #'vconcat before)) :hover hover :line line :after (length after)
                               :actions (vconcat (mapcar (lambda (a) (plist-get a :title)) actions)))))))
