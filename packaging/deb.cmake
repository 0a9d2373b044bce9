# Run by CPack between installing and packing: where a Debian package differs from
# `make install`. Manual pages are compressed, zsh looks elsewhere for what packages bring,
# and the licence is in `copyright`.
set(usr ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/usr)
set(doc ${usr}/share/doc/nightmill)

function(run)
  execute_process(COMMAND ${ARGN} COMMAND_ERROR_IS_FATAL ANY)
endfunction()

run(strip --remove-section=.comment --remove-section=.note ${usr}/bin/nightmill)
file(GLOB pages ${usr}/share/man/man1/*.1)
run(gzip -9nf ${pages})
file(RENAME ${usr}/share/zsh/site-functions ${usr}/share/zsh/vendor-completions)

file(REMOVE ${doc}/LICENSE)
file(COPY ${CPACK_NIGHTMILL_DEBIAN}/copyright DESTINATION ${doc} FILE_PERMISSIONS
  OWNER_READ OWNER_WRITE GROUP_READ WORLD_READ)
configure_file(${CPACK_NIGHTMILL_CHANGELOG} ${doc}/changelog COPYONLY)
run(gzip -9nf ${doc}/changelog)
