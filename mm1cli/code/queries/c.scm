(function_definition) @definition.function
(struct_specifier name: (type_identifier) @name body: (_)) @definition.struct
(union_specifier name: (type_identifier) @name body: (_)) @definition.struct
(enum_specifier name: (type_identifier) @name body: (_)) @definition.enum
(type_definition declarator: (type_identifier) @name) @definition.type
(preproc_function_def name: (identifier) @name) @definition.macro

(preproc_include path: (string_literal) @module) @import.quoted
(preproc_include path: (system_lib_string) @module) @import.angled
(preproc_include path: [(identifier) (call_expression)] @module) @import.dynamic
((translation_unit (function_definition
  declarator: (function_declarator declarator: (identifier) @_main)) @entry.main)
 (#eq? @_main "main"))
