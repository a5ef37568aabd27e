# What is installed beside the programs, whose own folders install them: man pages, completions and
# the systemd unit; and how all of it becomes a Debian package.
file(GLOB man1 CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/man/*.1)
file(GLOB man8 CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/man/*.8)
install(FILES ${man1} DESTINATION ${CMAKE_INSTALL_MANDIR}/man1)
install(FILES ${man8} DESTINATION ${CMAKE_INSTALL_MANDIR}/man8)

# vmctl prints its own completions, so they cannot differ from what it takes. A sanitized or foreign
# vmctl is not run in a build.
if(TARGET vmctl AND NOT FERRY_SANITIZE AND NOT CMAKE_CROSSCOMPILING)
  set(completions)
  foreach(shell bash zsh fish)
    set(out ${CMAKE_BINARY_DIR}/completions/vmctl.${shell})
    add_custom_command(OUTPUT ${out} DEPENDS vmctl VERBATIM
      COMMAND ${CMAKE_COMMAND} -E make_directory ${CMAKE_BINARY_DIR}/completions
      COMMAND vmctl completion ${shell} > ${out})
    list(APPEND completions ${out})
  endforeach()
  add_custom_target(completions ALL DEPENDS ${completions})
  install(FILES ${CMAKE_BINARY_DIR}/completions/vmctl.bash RENAME vmctl
    DESTINATION ${CMAKE_INSTALL_DATADIR}/bash-completion/completions)
  install(FILES ${CMAKE_BINARY_DIR}/completions/vmctl.fish
    DESTINATION ${CMAKE_INSTALL_DATADIR}/fish/vendor_completions.d)
endif()

# These depend on the prefix, which is known only when it is installed.
configure_file(${CMAKE_SOURCE_DIR}/cmake/install_by_prefix.cmake.in
  ${CMAKE_BINARY_DIR}/install_by_prefix.cmake @ONLY)
install(SCRIPT ${CMAKE_BINARY_DIR}/install_by_prefix.cmake)

set(CPACK_GENERATOR DEB)
set(CPACK_PACKAGE_NAME ferry)
set(CPACK_PACKAGE_VENDOR "Ferry")
set(CPACK_PACKAGE_CONTACT "Ferry maintainers <ferry@localhost>")
set(CPACK_PACKAGE_DESCRIPTION_SUMMARY "virtual machines that are saved, checked, cloned and moved as values")
set(CPACK_PACKAGE_DESCRIPTION
"ferryd hosts KVM guests, each in a process of its own that runs on when
the daemon is restarted or upgraded. vmctl starts, watches and stops them.")
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION admin)
set(CPACK_DEBIAN_PACKAGE_PRIORITY optional)
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS "passwd, init-system-helpers (>= 1.52)")
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${CMAKE_SOURCE_DIR}/tools/packaging/postinst
  ${CMAKE_SOURCE_DIR}/tools/packaging/prerm
  ${CMAKE_SOURCE_DIR}/tools/packaging/postrm)
include(CPack)
